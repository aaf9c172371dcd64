"""The passage index: the same documents give the same results, and what was removed is gone. Ends at the index."""

from __future__ import annotations

import sqlite3

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accrete.retrieval import index as module
from accrete.retrieval.index import PassageIndex
from accrete.retrieval.indexed import Indexed
from accrete.retrieval.words import telling, words
from accrete.types import Passage

TEXTS = {
    "towns": ("The mayor of Zorvania is Ann Lee.", "Zorvania lies on the river Plim.", "Its market sells bells."),
    "ships": ("The Pyny was built by Orsolo and Sons.", "The Pyny carries bells and bricks."),
    "fish": ("Grass carp eat grass.", "The mayor of the pond is a pike."),
}


def passages(texts, name="d") -> list[Passage]:
    """As if the texts stood one after the other, with a space between."""
    found, start = [], 0
    for text in texts:
        found.append(Passage(text, name, start, start + len(text)))
        start += len(text) + 1
    return found


def filled(documents=TEXTS, **options) -> PassageIndex:
    index = PassageIndex(**options)
    for name, texts in documents.items():
        index.add(name, passages(texts, name), name)
    return index


def results(index: PassageIndex, questions=("mayor of Zorvania", "bells", "the grass", "river")) -> list:
    return [index.search(question, 5) for question in questions]


def texts_of(found) -> list[str]:
    return [one.passage.text for one in found]


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann's CAFÉ, no. 12_b!", ["ann", "s", "caf", "no", "12", "b"]),
        ("Straße ﬁsh", ["strass", "fish"]),
        ("東京 tower", ["東", "京", "tower"]),
        ("Ωμέγα привет", ["ωμεγα", "привет"]),
        ("?! ... \x00 🐟 \ud800", []),
        ("x" * 100_000, ["x" * 64]),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(
    "same",
    [
        "approves approved approving approve",
        "city cities",
        "box boxes",
        "name names named",
        "ship ships",
        "building builds build",
    ],
)
def test_endings_do_not_count(same):
    assert len(set(words(same))) == 1


@pytest.mark.parametrize("other", ["bus bu", "glass glas", "king k", "is i", "Paris Pari", "red r", "his hi"])
def test_what_is_no_ending_stays(other):
    assert len(set(words(other))) == 2


def test_stop_words_go_unless_nothing_else_is_left():
    assert list(telling("Who is the mayor of the town?")) == ["mayor", "town"]
    assert list(telling("Who is he doing this with?")) == ["who", "is", "he", "doing", "this", "with"]
    assert telling("?!") == {}


def test_words_of_one_name_follow_each_other():
    asked = telling("Did the Green Elmholm of Port Eyyv meet the Vaubrai, Lent or Elmholm?")
    assert asked == {"green": 1, "elmholm": 1, "port": 2, "eyyv": 2, "meet": 0, "vaubrai": 3, "lent": 4}


def test_half_a_name_is_less_than_half_of_it():
    index = PassageIndex()
    texts = ["The Green Windows tells of sailors.", "Elmholm ropes.", "The Green Elmholm was launched.", "Green green."]
    for number, text in enumerate(texts):
        index.add(str(number), [Passage(text, "", 0, 1)])
    shares = {found.passage.text: found.share for found in index.search("When was the Green Elmholm launched?", 4)}
    apart = {found.passage.text: found.share for found in index.search("When was the Green, Elmholm launched?", 4)}
    assert shares[texts[2]] == 1.0
    assert all(0 < shares[text] < apart[text] for text in (texts[0], texts[1]))


def test_names_are_capitals_and_digits_within_a_sentence():
    asked = telling("Mayor Ann met 3 pikes. Grass grows. (Reeds too.) In which Pond am I?\nWhere is the Both Thieves?")
    assert [word for word, name in asked.items() if name] == ["ann", "3", "pond", "both", "thiev"]
    assert not {"i", "in", "where", "is", "the"} & set(asked)


# --- searching ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranking", ["bm25", "tfidf"])
def test_the_best_passage_comes_first_with_its_place(ranking):
    index = filled(ranking=ranking)
    found = index.search("Who is the mayor of Zorvania?")
    assert found[0].passage == Passage("The mayor of Zorvania is Ann Lee.", "towns", 0, 33)
    assert found[0].share == 1.0 > found[1].share > 0
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    second = index.search("Plim")[0].passage
    assert (second.start, second.end) == (34, 66)


@pytest.mark.parametrize("question", ["", "   ", "?!...", '"', "''", "\x00", "🐟", "\ud800", "xyzzy", "(((", "*", "^"])
def test_what_has_no_known_word_finds_nothing(question):
    assert filled().search(question) == []


@pytest.mark.parametrize(
    "question",
    ['bells" OR "x', "NEAR(bells)", "bells AND NOT mayor", "words:bells", "bells*", "-bells", "bells;--", "{bells}"],
)
def test_no_question_is_an_fts5_query(question):
    assert {"Its market sells bells.", "The Pyny carries bells and bricks."} <= set(
        texts_of(filled().search(question, 5))
    )


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_can_be_asked_and_indexed(text):
    index = filled()
    index.search(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    index.add("any", [Passage(text, "any", 0, len(text))], "any")
    if words(text):
        assert text in texts_of(index.search(text, len(index)))
    index.remove("any")
    assert results(index) == results(filled())


def test_a_question_of_stop_words_alone_is_looked_for_as_it_is():
    assert texts_of(filled().search("Is it its?")) == ["Its market sells bells.", "The mayor of Zorvania is Ann Lee.",
        "The mayor of the pond is a pike."]  # fmt: skip


def test_a_very_long_question():
    text = " ".join(f"word{number}" for number in range(50_000))
    assert texts_of(filled().search("Plim " + text)) == ["Zorvania lies on the river Plim."]


def test_an_empty_index_and_an_empty_document():
    index = PassageIndex()
    assert index.search("mayor") == [] and len(index) == 0 and index.idf(["mayor"]) == {"mayor": 0.0}
    index.add("empty", [], "empty")
    index.add("also empty", [], "empty")
    index.add("full", passages(["A pike."]), "full")
    assert "empty" in index and texts_of(index.search("pike")) == ["A pike."]
    index.remove("empty")
    assert "empty" not in index and texts_of(index.search("pike")) == ["A pike."]


def test_rare_words_tell_more():
    idf = filled().idf(["zorvania", "the", "plim", "xyzzy"])
    assert idf["the"] < idf["zorvania"] < idf["plim"] == idf["xyzzy"], "what nobody has is as rare as what one has"


def test_a_name_that_is_missing_weighs_more_than_another_word():
    index = filled()
    lower, upper = (index.search(f"Where does {name} buy bells?")[0].share for name in ("gloxia", "Gloxia"))
    assert upper < lower < 1
    index.weigh = lambda word: 5.0 if word == "gloxia" else 1.0
    assert index.search("Where does gloxia buy bells?")[0].share < lower


def test_dates():
    index = PassageIndex()
    for key, dates in {"old": ("2019-05-01",), "new": ("2023-02", "2022-07"), "undated": ()}.items():
        index.add(key, [Passage(f"The mayor is {key}.", key, 0, 9)], key, dates)
    seen = {as_of: {f.passage.document for f in index.search("mayor", 9, as_of)} for as_of in (None, "2018", "2019",
        "2019-04-30", "2019-05-01", "2022-06", "2022-07-01", "2024-01-01")}  # fmt: skip
    assert seen == {
        None: {"old", "new", "undated"},
        "2018": {"undated"},
        "2019": {"old", "undated"},
        "2019-04-30": {"undated"},
        "2019-05-01": {"old", "undated"},
        "2022-06": {"old", "undated"},
        "2022-07-01": {"old", "new", "undated"},
        "2024-01-01": {"old", "new", "undated"},
    }


def test_a_rare_word_is_found_among_common_ones(monkeypatch):
    """The bounds at work: common words choose no pool where rarer ones do, and rank it all the same."""
    monkeypatch.setattr(module, "MOST_ROWS", 6)
    monkeypatch.setattr(module, "POOL", 4)
    texts = [f"common filler number{number}" for number in range(50)] + ["special thing here", "special common thing"]
    index = filled({"d": texts})
    assert texts_of(index.search("the common special thing", 2)) == ["special common thing", "special thing here"]
    assert index.search("common filler", 9) != [] and len(index.search("common filler", 9)) == 4
    assert texts_of(index.search("common number7", 1)) == ["common filler number7"]
    index.add("dated", passages(["common filler"]), "dated", ["2030"])
    assert all(one.passage.document == "d" for one in index.search("common filler", 9, "2020"))


def test_what_counts_at_a_date_is_found_behind_any_number_of_later_passages(monkeypatch):
    """Also where words are so common that the first that have them are taken."""
    monkeypatch.setattr(module, "MOST_ROWS", 6)
    monkeypatch.setattr(module, "POOL", 4)
    index = PassageIndex()
    for number in range(12):
        dates = ["2018"] if number in (7, 10, 11) else ["2030"]
        index.add(f"d{number}", passages([f"common filler {number}"] * 3, f"d{number}"), f"d{number}", dates)
    index.remove("d10")
    for asked in ("common filler", "common filler nowhere"):
        seen = [one.passage.document for one in index.search(asked, 9, "2020")]
        assert set(seen) == {"d7", "d11"} and len(seen) == 4
    assert index.search("common filler", 9, "2017") == []
    assert len(index.search("common filler", 9, "2031")) == len(index.search("common filler", 9)) == 4


# --- adding and removing --------------------------------------------------------------------------------------------


def test_what_is_removed_is_gone_and_nothing_else():
    index, without = filled(), filled({name: texts for name, texts in TEXTS.items() if name != "ships"})
    index.remove("ships")
    index.remove("never there")
    assert "ships" not in index and len(index) == len(without) == 5
    assert index.search("Orsolo bricks Pyny") == []
    assert results(index) == results(without)
    assert index.idf(["orsolo", "bells"]) == without.idf(["orsolo", "bells"])


def test_a_document_of_the_same_key_is_replaced():
    index = filled()
    index.add("ships", passages(["A raft."], "ships"), "ships")
    assert texts_of(index.search("raft")) == ["A raft."] and index.search("Orsolo") == []


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "restore"]), st.sampled_from(sorted(TEXTS))), max_size=12
)


@settings(max_examples=40, deadline=None)
@given(ACTIONS, st.sampled_from(["bm25", "tfidf"]))
def test_the_same_documents_give_the_same_results_however_they_came(actions, ranking):
    index, held, saved = PassageIndex(ranking), set(), ({}, set())
    for action, name in actions:
        if action == "add":
            index.add(name, passages(TEXTS[name], name), name)
            held.add(name)
        elif action == "remove":
            index.remove(name)
            held.discard(name)
        else:
            state = dict(index.state_dict()), set(held)
            index.load_state_dict(saved[0])
            held, saved = set(saved[1]), state
        fresh = filled({name: TEXTS[name] for name in reversed(sorted(held))}, ranking=ranking)
        assert results(index) == results(fresh)


def test_equal_passages_come_in_the_order_of_their_documents(monkeypatch):
    monkeypatch.setattr(module, "POOL", 2)
    names = ["c", "a", "e", "b", "d"]
    one, other = (filled({name: ("Same words.",) for name in order}) for order in (names, reversed(names)))
    assert [found.passage.document for found in one.search("same", 3)] == ["a", "b", "c"]
    assert results(one, ["same"]) == results(other, ["same"])


# --- state ----------------------------------------------------------------------------------------------------------


def test_the_state_is_compact_and_an_unchanged_document_keeps_its_tensors():
    index = filled()
    before = index.state_dict()
    assert set(before) == {f"{name}/{part}" for name in TEXTS for part in ("text", "spans", "about")}
    text = "".join(TEXTS["fish"]).encode()
    assert bytes(before["fish/text"].numpy()) == text and before["fish/text"].dtype == torch.uint8
    assert before["fish/spans"].tolist() == [[21, 0, 21], [32, 22, 54]]
    index.add("more", passages(["A raft."]), "more")
    after = index.state_dict()
    assert all(after[key] is value if torch.is_tensor(value) else after[key] == value for key, value in before.items())


def test_the_state_survives_its_journey_and_brings_the_results():
    index = PassageIndex()
    index.add("k", [Passage("Über den Fluß 東京 🐟", "ä", 3, 21), Passage("", "ä", 22, 22)], "ä", ["2020-01-01"])
    again = PassageIndex()
    again.load_state_dict({key: v.clone() if torch.is_tensor(v) else v for key, v in index.state_dict().items()})
    assert again.search("uber den fluss") == index.search("uber den fluss") != []
    assert again.search("fluss", 1, "2019") == [] and again.state_dict()["k/about"] == {
        "name": "ä",
        "dates": ["2020-01-01"],
    }


def test_a_new_name_or_date_counts():
    index, renamed = filled(), filled()
    state = renamed.state_dict()
    index.load_state_dict(state | {"fish/about": {"name": "carp", "dates": ["2030"]}})
    assert index.search("grass")[0].passage.document == "carp" and index.search("grass", 3, "2020") == []


@pytest.mark.parametrize(
    "broken",
    [
        {"fish/spans": torch.zeros(2, 2, dtype=torch.int32)},
        {"fish/spans": torch.tensor([[5, 0, 5]], dtype=torch.int32)},
        {"fish/spans": torch.tensor([[54, 0, 5], [-1, 0, 5]], dtype=torch.int32)},
        {"fish/text": torch.zeros(53)},
        {"fish/about": None},
        {"fish/about": {"name": "fish"}},
        {"other/text": torch.zeros(0, dtype=torch.uint8)},
        {"fish/text": "text"},
    ],
)
def test_what_is_no_state_is_refused_and_changes_nothing(broken):
    index = filled()
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        index.load_state_dict(index.state_dict() | broken)
    assert results(index) == results(filled())


# --- a file ---------------------------------------------------------------------------------------------------------


def count_insertions(monkeypatch) -> list[str]:
    """The documents that are put into any table from now on."""
    seen: list[str] = []
    insert = module.Table.insert
    monkeypatch.setattr(module.Table, "insert", lambda table, new: seen.extend(new) or insert(table, new))
    return seen


def test_a_file_is_not_indexed_again(tmp_path, monkeypatch):
    state = filled(path=tmp_path / "index.sqlite").state_dict()
    inserted = count_insertions(monkeypatch)
    again = PassageIndex(path=tmp_path / "index.sqlite")
    again.load_state_dict(state)
    assert results(again) == results(filled()) and inserted == list(TEXTS)  # those of the index to compare with
    again.load_state_dict({})
    assert again.search("bells") == []  # the state before any lesson is looked at for a moment
    again.load_state_dict(state)
    inserted.clear()
    assert results(again) != [] and inserted == []


def test_a_file_of_another_state_is_brought_to_this_one_by_who_changes_it(tmp_path, monkeypatch):
    path = tmp_path / "index.sqlite"
    filled(path=path)
    wanted = {"fish": TEXTS["fish"], "towns": ("Another text of the same name.",), "new": ("A raft.",)}
    state = filled(wanted).state_dict()
    index = PassageIndex(path=path)
    index.load_state_dict(state)
    before, asked = path.read_bytes(), ["raft", "bells", "text", "mayor"]
    assert results(index, asked) == results(filled(wanted), asked) and path.read_bytes() == before
    inserted = count_insertions(monkeypatch)
    index.settle()
    assert inserted == ["towns", "new"]
    assert results(index, asked) == results(filled(wanted), asked)
    inserted.clear()
    again = PassageIndex(path=path)
    again.load_state_dict(state)
    assert results(again, asked) == results(index, asked) and not inserted


def test_two_processes_may_use_a_file_in_turn(tmp_path):
    path = tmp_path / "index.sqlite"
    one, other = filled(path=path), filled({"fish": TEXTS["fish"]}, path=path)
    for _ in range(2):
        assert results(one) == results(filled()) and results(other) == results(filled({"fish": TEXTS["fish"]}))


@pytest.mark.parametrize("kind", ["no folder", "no database", "another's database", "a directory"])
def test_a_file_that_cannot_be_used_is_left_alone(tmp_path, kind):
    path = tmp_path / "index.sqlite"
    if kind == "no folder":
        path = tmp_path / "missing" / "index.sqlite"
    elif kind == "no database":
        path.write_text("some notes of mine, " * 100)
    elif kind == "a directory":
        path.mkdir()
    else:
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE words (mine TEXT)")
    before = path.read_bytes() if path.is_file() else b""
    assert results(filled(path=path)) == results(filled())
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_file_that_is_locked_is_replaced_by_memory(tmp_path, monkeypatch):
    path = tmp_path / "index.sqlite"
    filled(path=path)
    connect = sqlite3.connect
    monkeypatch.setattr("accrete.retrieval.table.sqlite3.connect", lambda p, **o: connect(p, **o | {"timeout": 0}))
    with connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        index = filled({"fish": TEXTS["fish"]}, path=path)
        assert results(index) == results(filled({"fish": TEXTS["fish"]})) and index.path is None


def test_an_interruption_leaves_the_index_whole(monkeypatch):
    index = filled()
    before = index.state_dict()
    with monkeypatch.context() as patched:
        patched.setattr("accrete.retrieval.table.words", lambda text: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            index.add("more", passages(["A raft."]), "more")
    index.load_state_dict(before)
    assert results(index) == results(filled()) and index.search("raft") == []


def test_what_is_indexed_is_checked():
    with pytest.raises(ValueError, match="as long"):
        Indexed("d", (), torch.zeros(3, dtype=torch.uint8), torch.tensor([[2, 0, 2]], dtype=torch.int32))


@pytest.mark.parametrize("how", ["removed", "undone"])
def test_what_is_forgotten_is_nowhere_in_the_files(tmp_path, how):
    """Also not in what FTS5 has not merged yet, in free pages, or in the journal beside the file."""
    path = tmp_path / "index.sqlite"
    index = filled(path=path)
    before = index.state_dict()
    index.add("secret", [Passage("The password of the vault is xyzzyplugh.", "secret", 0, 40)])
    assert any(b"xyzzyplugh" in file.read_bytes() for file in tmp_path.iterdir())
    if how == "removed":
        index.remove("secret")
    else:
        index.load_state_dict(before)
    index.settle()
    assert not any(b"xyzzyplugh" in file.read_bytes() for file in tmp_path.iterdir())
    assert results(index) == results(filled())
