"""The World Factbook: snapshots in order, what changed and what did not, statements that stand in the documents."""

import json
import os
import re

import pytest

from accrete.errors import DocumentError, UsageError
from accrete.evaluate.streams import Options, _country_values, make
from accrete.scoring import contains

DAYS = ("2016-11-26", "2020-11-27", "2022-12-29")
COUNTRIES = 6
LEADERS = ("Prime Minister Ann Lee {0}", "Premier Ann {0}", "Acting Prime Minister Bo Quickly {1}")  # one change
NAMES = "KORR LUND MOOS NYTH OSK PELL".split()


def entries():
    """(country, relation, label, value, what follows) by day: leaders change once, populations always, capitals never."""
    for place, day in enumerate(DAYS):
        for i in range(COUNTRIES):
            country = f"Land{i}"
            yield (
                day,
                country,
                "head of government",
                LEADERS[place].format(NAMES[i], NAMES[i - 1]),
                " (since 1 May 2016); note - x",
            )
            yield day, country, "population", f"{i + 1},00{place},000", f" (July {day[:4]} est.)"
            yield day, country, "capital", f"{NAMES[i].title()} City ({NAMES[i].title()}stad)", "; no other."


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))


def snapshot(folder, entries):
    facts, texts = [], {day: {} for day in DAYS}
    for day, country, relation, value, rest in entries:
        facts.append({"entity": country, "code": country[-2:], "relation": relation, "value": value, "snapshot": day})
        line = f"{_country_values.LABELS[relation]}{value}{rest}"
        texts[day].setdefault(country, [f"{country}\n\nHistory of {value}."]).append(line)
    write(folder / "world_factbook_facts.jsonl", facts)
    for day, countries in texts.items():
        rows = [{"entity": c, "code": c[-2:], "date": day, "text": "\n".join(lines)} for c, lines in countries.items()]
        write(folder / f"world_factbook_documents_{day}.jsonl", rows)
    return folder


@pytest.fixture
def folder(tmp_path):
    return snapshot(tmp_path, entries())


def kinds(task, relation):
    return {probe.kind for probe in task.probes if probe.fact.relation == relation}


def test_snapshots_are_lessons_in_order_and_say_what_changed(folder):
    stream = make("factbook", Options(data=folder, facts=18))
    assert [task.probes[0].as_of for task in stream.tasks] == list(DAYS) == stream.about["snapshots"]
    assert [kinds(task, "population") for task in stream.tasks] == [{"new"}, {"changed"}, {"changed"}]
    assert [kinds(task, "head of government") for task in stream.tasks] == [{"new"}, {"unchanged"}, {"changed"}]
    assert [kinds(task, "capital") for task in stream.tasks] == [{"new"}, {"unchanged"}, {"unchanged"}]
    asked = [[(probe.fact.subject, probe.fact.relation) for probe in task.probes] for task in stream.tasks]
    assert asked[0] == asked[1] == asked[2] and len(set(asked[0])) == 18
    assert (stream.about["facts"], stream.about["facts_that_change"]) == (18, 12)


def test_a_statement_is_what_the_documents_line_says_up_to_the_value(folder):
    task = make("factbook", Options(data=folder, facts=18)).tasks[1]
    lines = task.document.text.split("\n\n")  # a paragraph each: they are about different countries
    assert "Capital of Land0 on 27 November 2020: Korr City (Korrstad)." in lines
    leader = "Head of government of Land0 on 27 November 2020: Premier Ann KORR (since 1 May 2016)."
    assert leader in lines and len(lines) == 18 and "Executive branch" not in task.document.text
    assert [probe.context for probe in task.probes] == lines


def test_items_ask_the_same_in_other_words(folder):
    for task in make("factbook", Options(data=folder, facts=18)).tasks:
        probes = {probe.question for probe in task.probes}
        assert len(probes) == 18 and not probes & {item.question for item in task.document.items}
        for item, probe in zip(task.document.items, task.probes, strict=True):
            assert item.answer == probe.answers[0] and probe.fact.subject in item.question
            assert probe.question.startswith(f"As of {probe.as_of[:4]}, ")
            assert max(contains(probe.context, answer) for answer in probe.answers) == 1


def test_half_of_the_facts_change_where_there_are_enough(folder):
    for size, changing in ((4, 2), (9, 5), (16, 10)):
        stream = make("factbook", Options(data=folder, facts=size))
        assert (len(stream.tasks[0].probes), stream.about["facts_that_change"]) == (size, changing)
    two = make("factbook", Options(data=folder, lessons=2, facts=12))
    assert len(two.tasks) == 2 and two.about["facts_that_change"] == 6  # leaders do not change so early


def test_the_limit_counts_probes_and_cuts_what_is_taught(folder):
    for limit, size, lessons in ((13, 4, 3), (3, 1, 3), (2, 1, 2), (1, 1, 1)):
        stream = make("factbook", Options(data=folder, limit=limit))
        assert len(stream.tasks) == lessons
        assert {len(task.probes) for task in stream.tasks} == {size}
        assert {len(task.document.items) for task in stream.tasks} == {size}


def test_the_seed_decides_and_too_much_is_refused(folder):
    assert make("factbook", Options(data=folder, facts=4)) == make("factbook", Options(data=folder, facts=4))
    drawn = {make("factbook", Options(data=folder, facts=4, seed=seed)).tasks[0].document.text for seed in range(5)}
    assert len(drawn) > 1
    for asked, problem in (({"lessons": 4}, "only 3 snapshots"), ({"facts": 19}, "only 18 pairs")):
        with pytest.raises(UsageError, match=problem):
            make("factbook", Options(data=folder, **asked))


def test_pairs_are_left_out_that_are_not_stated_everywhere_or_not_tidy_or_not_told_apart(tmp_path):
    def spoilt():
        for day, country, relation, value, rest in entries():
            if (country, relation) == ("Land0", "capital") and day == DAYS[1]:
                continue  # in two snapshots only
            if (country, relation) == ("Land1", "head of government"):
                value = "Prime Minister to be appointed soon"
            if (country, relation) == ("Land2", "head of government"):
                value = "King SABAH al-Jabir" if day == DAYS[0] else "King NAWAF al-Jabir"
            yield day, country, relation, value, rest

    folder = snapshot(tmp_path, spoilt())
    facts = folder / "world_factbook_facts.jsonl"
    rows = [json.loads(line) for line in facts.read_text().splitlines()]
    for row in rows:
        if (row["entity"], row["relation"]) == ("Land3", "capital"):
            row["value"] = "Elsewhere"  # not what the documents say
    write(facts, rows)
    stream = make("factbook", Options(data=folder))
    used = {(probe.fact.subject, probe.fact.relation) for probe in stream.tasks[0].probes}
    out = {(f"Land{i}", relation) for i in range(4) for relation in (("capital", "head of government")[i in (1, 2)],)}
    assert len(used) == 18 - 4 and not used & out


def test_missing_documents_are_named(folder):
    for day in DAYS:
        (folder / f"world_factbook_documents_{day}.jsonl").unlink()
    with pytest.raises(DocumentError, match=r"world_factbook_facts.jsonl there are no .*documents"):
        make("factbook", Options(data=folder))


@pytest.mark.parametrize(
    ("relation", "value", "answers"),
    [
        ("chief of state", "President Abdelaziz BOUTEFLIKA", ("President Abdelaziz BOUTEFLIKA", "Abdelaziz BOUTEFLIKA")),
        ("chief of state", "King WILLEM-ALEXANDER of the Netherlands", ("King WILLEM-ALEXANDER", "WILLEM-ALEXANDER")),
        ("head of government", "Taoiseach (Prime Minister) Enda KENNY",
         ("Taoiseach (Prime Minister) Enda KENNY", "Enda KENNY")),
        ("chief of state", "President Joseph R. BIDEN, Jr.", ("President Joseph R. BIDEN", "Joseph R. BIDEN")),
        ("head of government", "On 11 December 2021, the National Assembly approved an amendment", ()),
        ("chief of state", "president (vacant); President Ashraf GHANI departed", ()),
        ("capital", "Tirana (Tirane)", ("Tirana", "Tirane")),
        ("capital", "Nicosia (Lefkosia/Lefkosa)", ("Nicosia", "Lefkosia", "Lefkosa")),
        ("capital", "George Town (on Grand Cayman)", ("George Town",)),
        ("capital", "La Paz (administrative capital)", ("La Paz",)),
        ("capital", "Dar es Salaam (administrative capital), Dodoma (legislative capital)", ()),
        ("population", "39,542,166", ("39,542,166",)),
        ("population", "no indigenous inhabitants", ()),
        ("government type", "parliamentary democracy (Parliament) under a constitutional monarchy",
         ("parliamentary democracy (Parliament) under a constitutional monarchy",
          "parliamentary democracy under a constitutional monarchy")),
        ("government type", "in transition", ()),
        ("national holiday", "Independence Day, 5 July (1962)", ("5 July",)),
        ("national holiday", "Constitution Day, the first Monday in August (1965)", ()),
        ("national holiday", "Independence Day, 8 October (1991) and Statehood Day, 25 June (1991)", ()),
        ("national holiday", "Independence Day, 28-29 July (1821)", ()),
        ("independence", "5 July 1962 (from France)", ("5 July 1962",)),
        ("independence", "none (overseas collectivity of France)", ()),
        ("anthem", "x", ()),
    ],
)  # fmt: skip
def test_values_become_tidy_answers_or_none(relation, value, answers):
    assert _country_values.answers(relation, value) == answers


def test_another_spelling_is_no_change_and_a_doubt_is_none():
    def same(relation, before, after):
        return _country_values.same(*(relation, *(_country_values.answers(relation, v) for v in (before, after))))

    assert same("capital", "Kyiv (Kiev)", "Kiev") is True
    assert same("capital", "Astana", "Nur-Sultan") is False
    assert (
        same("head of government", "Prime Minister Ulisses CORREIA E. SILVA", "Premier Ulisses Correia e SILVA") is True
    )
    assert same("chief of state", "President Juan PEREZ Molina", "President Juan PEREZ") is True
    assert same("chief of state", "Amir SABAH al-Ahmad al-Sabah", "Amir NAWAF al-Ahmad al-Sabah") is None
    assert same("chief of state", "President Ann LEE", "President Bo MARSH") is False
    assert same("government type", "presidential republic", "semi-presidential republic") is False


@pytest.mark.skipif(not os.environ.get("ACCRETE_DATA"), reason="the real files are not at hand")
def test_the_real_files():
    stream = make("factbook", Options())
    assert [len(task.probes) for task in stream.tasks] == [200] * 3 and stream.about["facts_that_change"] == 100
    for task in stream.tasks:
        assert len(task.document.text) < 25_000
        assert all(any(contains(probe.context, answer) for answer in probe.answers) for probe in task.probes)
        assert not re.search(r"vacant|note -", " ".join(probe.context for probe in task.probes))
