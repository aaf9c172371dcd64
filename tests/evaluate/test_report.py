"""The report is one well-formed page that loads nothing, names every method and lets nothing through unescaped."""

import copy
import itertools
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from accrete.errors import UsageError
from accrete.evaluate import metrics
from accrete.evaluate.report import html
from accrete.evaluate.report.charts import curves, spread
from accrete.evaluate.report.markup import DASH, element, figure, quantity, seconds, series, size, text
from accrete.evaluate.report.matrix import heat_map
from accrete.evaluate.report.scatter import trade_off
from accrete.evaluate.report.table import OUTCOME, table
from accrete.evaluate.results import SCHEMA

TASKS = ["Sorrel Bay", "The Lantern Museum", "Ostrava Mk II", "Treaty of Veldt", "Halden Institute", "MV Corrigan"]
HOSTILE = """</style><script>alert("1")</script><img src=http://evil.example/x onerror='go()'>&amp;\x00\ud800\u202e"""


def cells(learned, decay, base=0.02, transfer=0.0, full=False):
    """R of a method that learns so much and then loses a share of it with every further lesson."""
    count = len(TASKS)
    R = [[base] * count]
    for i in range(1, count + 1):
        row = [None] * count
        for j in range(count):
            if j < i and (full or i in (j + 1, count)):
                row[j] = round(max(base, learned[j] * decay ** (i - j - 1)), 3)
            elif j == i or (full and j > i):
                row[j] = base + transfer
        R.append(row)
    return R


def method(name, R, seconds_each, sentinels, **more):
    figures = metrics.of_matrix(R)
    bounds = {key: [max(0, v - 0.06), min(1, v + 0.05)] for key, v in figures.items() if v is not None}
    lessons = [
        {
            "task": task,
            "seconds": seconds_each * (1 + 0.1 * i),
            "tokens": 5210,
            "peak_mb": 912.5,
            "bytes": 81_000 * (i + 1),
        }
        for i, task in enumerate(TASKS)
    ]
    worst = [
        {"task": TASKS[i], "question": f"Who founded {TASKS[i]}?", "truth": "Ada Quill", "before": "1987",
         "after_lesson": "Ada Quill", "at_end": "Bram Odell"}
        for i in range(3)
    ]  # fmt: skip
    return {
        "method": name, "config": {"rate": 0.001, "steps": 40}, **figures, "ceiling": 0.95, "sentinels": sentinels,
        "kl_to_base": 0.0312, "top1_agreement": 0.97, "perplexity_before": 14.2, "perplexity_after": 15.01,
        "learn_seconds": seconds_each * 1.25, "answer_seconds": 0.0031,
        "log_likelihood": -1.2, "refused": 0.0, "tokens": 31_260, "tokens_per_second": 2100.0,
        "bytes": 1_250_000, "peak_mb": 912.5, "trainable": 1_310_720, "error": None, "intervals": bounds, "matrix": R,
        "sentinels_by_step": [1.0, *(1 - (1 - sentinels) * i / 6 for i in range(1, 7))],
        "kept_sets": {"sentinels": [0.9] * 7, "world facts": [0.9, None, None, None, None, None, 0.9 * sentinels]},
        "lessons": lessons, "worst": worst, **more,
    }  # fmt: skip


def results():
    """Three methods that learn six lessons, and one that fails."""
    failed = dict.fromkeys(("learned", "kept", "sentinels", "intervals", "matrix", "lessons", "worst", "kept_sets"))
    return {
        "schema": SCHEMA,
        "stream": {"name": "world", "about": {"facts": 120, "seed": 0}, "tasks": TASKS, "score": "contains"},
        "model": "embedded", "base_digest": "9f2c" * 16, "commit": "454c810", "seeds": [0], "study": "gold",
        "machine": {"cpu": "AMD EPYC", "cores": 2, "memory_gb": 24.0}, "versions": {"torch": "2.13.0", "accrete": "0.1.0"},
        "command": "accrete compare --stream world --methods all --limit 60", "measured": "2026-11-02T17:06:19Z",
        "rows": [
            method("dense_weights", cells([0.97, 0.95, 1, 0.93, 0.98, 0.96], 0.74), 4.8, 0.31),
            method("hidden_states", cells([0.98, 1, 0.97, 0.95, 0.99, 0.98], 0.999, full=True), 0.3, 1.0),
            method("slow_adapter_with_a_long_name", cells([0.9, 0.92, 0.85, 0.94, 0.9, 0.91], 0.96, 0.02, 0.03), 14, 0.84),
            {"method": "broken_method", "config": {}, **failed, "error": "The memory of this machine is full."},
        ],
    }  # fmt: skip


class Page(HTMLParser):
    """What is on the page, and whether every element that was opened is closed in its turn."""

    VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.said = [], [], [], []
        self.feed(page.replace("<wbr>", ""))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        if "style" not in self.open:
            self.said.append(data)

    @property
    def words(self):
        return " ".join(self.said)


def test_the_page_is_well_formed_and_has_every_part():
    page = Page(html(results()))
    for heading in (
        "Learned and kept",
        "Lesson by lesson",
        "The trade-off",
        "The matrices",
        "Worst answers",
        "How it was made",
    ):
        assert heading in page.words
    assert page.tags.count("html") == page.tags.count("main") == page.tags.count("h1") == 1


def test_every_method_is_named_in_the_table_and_beside_its_line():
    page = Page(html(results()))
    for row in results()["rows"]:
        assert row["method"] in page.words
    assert page.words.count("hidden_states") >= 5  # table, curves, scatter, heat map, settings


def test_nothing_is_loaded_and_nothing_runs():
    page = Page(html(results()))
    assert not {"script", "link", "img", "iframe", "object", "embed", "use", "image", "base", "form"} & set(page.tags)
    assert not [key for key, _ in page.attributes if key in ("src", "href", "srcset", "action") or key.startswith("on")]
    assert "http://" not in html(results()) and "https://" not in html(results())
    assert not re.search(r"@import|@font-face|url\((?!#)", html(results()))
    assert any("default-src 'none'" in (value or "") for key, value in page.attributes if key == "content")


def with_hostile_strings(value):
    """Every string of the results replaced, keys of open dictionaries included."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, list):
        return [with_hostile_strings(each) for each in value]
    if isinstance(value, dict):
        found = {key: with_hostile_strings(each) for key, each in value.items()}
        return found | ({HOSTILE: "x"} if set(value) & {"torch", "cpu", "facts", "rate"} else {})
    return value


def test_hostile_strings_stay_text():
    hostile = with_hostile_strings(results())
    hostile["rows"][0]["kept_sets"] = {HOSTILE: [0.5] * 7}
    said = html(hostile)
    page = Page(said)
    assert not {"script", "img"} & set(page.tags)
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    assert page.tags.count("style") == 1 and 'alert("1")' in page.words
    said.encode("utf-8")  # a lone surrogate would not be written
    assert "\x00" not in said


def test_a_method_that_failed_is_a_row_with_its_error():
    page = Page(html(results()))
    assert "broken_method" in page.words and "The memory of this machine is full." in page.words
    assert "4 methods, 1 failed" in page.words


def test_a_method_that_failed_on_the_way_keeps_its_figures():
    found = results()
    found["rows"][0]["error"] = "Stopped at lesson 5."
    said = table(series(found["rows"]), OUTCOME)
    assert "Stopped at lesson 5." in said and figure(found["rows"][0]["learned"]) in said


def test_only_failures_nothing_at_all_and_results_of_another_schema():
    found = results()
    found["rows"] = found["rows"][3:]
    assert "full" in Page(html(found)).words
    for empty in ({}, {"schema": SCHEMA, "stream": None, "rows": None}, {"rows": [{}]}):
        Page(html(empty))
    with pytest.raises(UsageError, match="schema 1"):
        html({"schema": 1})


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf"), "x", True])
def test_what_is_no_number_is_a_dash_everywhere(missing):
    assert {show(missing) for show in (figure, quantity, seconds, size)} == {DASH}
    found = results()
    for row in found["rows"][:3]:
        row["matrix"] = [[missing] * 6 for _ in range(7)]
        row["sentinels_by_step"], row["forgetting"], row["plasticity"] = [missing] * 7, missing, missing
    found["rows"][0]["learn_seconds"] = missing
    page = Page(html(found))
    assert not re.search(r"\b(nan|NaN|inf|None|null)\b", page.words)


def test_a_column_is_dashed_for_one_method_and_left_out_when_no_method_has_it():
    found = results()["rows"]
    found[0]["forgetting"] = None
    said = table(series(found), OUTCOME)
    assert f'<td class="none">{DASH}</td>' in said
    assert "Not measured here: Plasticity, Stability, Versioned, Token F1." in said


@pytest.mark.parametrize(
    ("show", "value", "said"),
    [
        (figure, 0.5, "0.50"), (figure, -0.125, "−0.12"), (figure, -0.0001, "−0.0001"), (figure, 0, "0.00"),
        (figure, 0.0031, "0.003"), (figure, -0.00001, "0.00"), (quantity, 31_260, "31,260"),
        (quantity, 1_310_720, "1.31 M"), (quantity, 2.5, "2.5"), (seconds, 0.0042, "4.2 ms"), (seconds, 2.04, "2.0 s"),
        (seconds, 6_000, "100 min"), (size, 999, "999 B"), (size, 81_000, "81 KB"), (size, 3_200_000_000, "3.2 GB"),
        (size, 0, "0 B"),
    ],
)  # fmt: skip
def test_numbers_as_people_read_them(show, value, said):
    assert show(value) == said


def test_methods_that_come_twice_are_told_apart_by_their_settings():
    rows = [
        {"method": "a", "config": {"rate": 1, "steps": 4}},
        {"method": "a", "config": {"rate": 2, "steps": 4}},
        {"method": "b"},
        {"method": "b"},
    ]
    labels = [one.label for one in series(rows)]
    assert labels[:3] == ["a rate=1", "a rate=2", "b"] and len(set(labels)) == 4


def test_an_entry_that_was_not_measured_is_not_drawn():
    row = {"method": "a", "matrix": [[0.1, 0.2], [0.9, None], [0.5, 0.8]]}
    drawn = ElementTree.fromstring(heat_map(series([row])[0], ["one", "<two>"]))
    tips = [rect.find("title").text for rect in drawn.iter("rect") if rect.get("class") == "heat"]
    assert tips[:2] == ["base: 0.10 on 1, one", "base: 0.20 on 2, <two>"]
    assert len(tips) == 5 and "after 2, <two>: 0.50 on 1, one" in tips
    shades = [float(rect.get("fill-opacity")) for rect in drawn.iter("rect") if rect.get("class") == "heat"]
    assert sorted(shades) == [shades[i] for i in (0, 1, 3, 4, 2)]


def panels(drawn):
    """{heading: [what is said at every point]} of the curves."""
    figures = ElementTree.fromstring(drawn).iter("figure")
    said = {figure.find("figcaption/b").text: [tip.text for tip in figure.iter("title")] for figure in figures}
    return {heading: [tip for tip in tips if ", " in tip] for heading, tips in said.items()}


def test_curves_show_the_diagonal_the_end_and_only_what_was_asked():
    row = {"method": "a", "matrix": [[0, 0, 0], [0.9, 0, None], [0.5, 0.8, 0.1], [0.3, 0.7, 1.0]]}
    row |= {
        "sentinels_by_step": [1.0, None, 0.9, 0.6],
        "lessons": [{"seconds": 2.0}, {"seconds": None}, {"seconds": 3.0}],
    }
    found = panels(curves(series([row]), 3))
    assert found["Right after each lesson."] == ["a, lesson 1: 0.90", "a, lesson 2: 0.80", "a, lesson 3: 1.00"]
    assert found["The same lessons at the end."] == ["a, lesson 1: 0.30", "a, lesson 2: 0.70", "a, lesson 3: 1.00"]
    assert found["All lessons so far."] == ["a, lesson 1: 0.90", "a, lesson 2: 0.65", "a, lesson 3: 0.67"]
    assert found["What the base knew."] == ["a, base: 1.00", "a, lesson 2: 0.90", "a, lesson 3: 0.60"]
    assert found["Time."] == ["a, lesson 1: 2.0 s", "a, lesson 3: 3.0 s"]
    row["matrix"][2][0] = None  # the second step was not asked in full
    assert "All lessons so far." not in panels(curves(series([row]), 3))


def test_long_streams_are_smoothed_and_say_so():
    count = 40
    R = [[float(i == j + 1 and j % 2 == 0) for j in range(count)] for i in range(count + 1)]
    drawn = curves(series([{"method": "a", "matrix": R}]), count)
    assert "A running mean over 5 lessons." in drawn
    assert set(panels(drawn)["Right after each lesson."][2:-2:2]) >= {"a, lesson 3: 0.60", "a, lesson 5: 0.60"}


def test_the_trade_off_is_what_was_learned_against_what_was_kept():
    rows = [{"method": "a", "learned": 0.9, "kept": 0.4, "sentinels": 0.8, "learn_seconds": 4.0, "lessons": [{}, {}]}]
    assert "a: kept 0.40, learned 0.90, 4.0 s a lesson" in trade_off(series(rows))
    once = [row | {"lessons": [{}]} for row in rows]
    assert "a: sentinels 0.80, learned 0.90" in trade_off(series(once)), (
        "of one lesson what is kept is what was learned"
    )
    assert trade_off(series([{"method": "a", "learned": 0.9}])) == ""


def test_what_changed_and_what_did_not_is_a_picture_beside_it():
    rows = [{"method": "b", "learned": 0.9, "kept": 0.85, "stability": 0.95, "plasticity": 0.6, "lessons": [{}, {}]}]
    drawn = trade_off(series(rows))
    assert drawn.count("<svg") == 2 and f"b: stability 0.95, plasticity 0.60, {DASH} a lesson" in drawn
    assert drawn.index("Learning against keeping") < drawn.index("What changed and what did not")
    assert "Both axes begin at 0.8." in drawn and "Both axes begin at 0.5." in drawn, (
        "neither of a picture is cut alone"
    )


def test_marks_at_one_place_are_all_named_apart():
    rows = [{"method": f"method_{i}", "learned": 0.95, "sentinels": 1.0, "learn_seconds": 1.0} for i in range(8)]
    figure = ElementTree.fromstring(trade_off(series(rows)))
    names = {t.text: (float(t.get("x")), float(t.get("y"))) for t in figure.iter("text") if t.get("class") == "name"}
    assert len(names) == 8
    for (x, y), (other_x, other_y) in itertools.combinations(names.values(), 2):
        assert abs(y - other_y) >= 14 or abs(x - other_x) >= 70


def test_the_page_does_not_grow_without_end():
    """Sixty lessons and ten methods, all measured: still a page that opens."""
    found = results()
    count = 60
    found["stream"]["tasks"] = [f"document {i}" for i in range(count)]
    for row in found["rows"][:3]:
        row["matrix"] = [[(i * j) % 7 / 7 for j in range(count)] for i in range(count + 1)]
        row["sentinels_by_step"], row["kept_sets"] = [1.0] * (count + 1), {}
    found["rows"] = [dict(copy.deepcopy(found["rows"][i % 3]), method=f"method_{i}") for i in range(10)]
    said = html(found)
    Page(said)
    assert len(said) < 16_000_000


def test_tasks_may_be_told_as_objects():
    found = results()
    found["stream"]["tasks"] = [{"name": f"lesson on {name}", "items": 2} for name in TASKS]
    page = Page(html(found))
    assert "1 lesson on Sorrel Bay" in page.words and "items" not in page.words.partition("The matrices")[2][:2000]


def test_one_lesson_and_one_method():
    found = results()
    found["stream"]["tasks"] = ["only"]
    found["rows"] = [found["rows"][0] | {"matrix": [[0.0], [1.0]], "sentinels_by_step": [1.0, 0.9], "kept_sets": {}}]
    page = Page(html(found))
    assert "1 method · 1 lesson ·" in page.words


def test_seeds_are_shown_as_a_spread_and_kinds_of_questions_apart():
    found = results()
    row = found["rows"][1]
    row["spread"] = {"learned": 0.031}
    row["by_kind"] = {kind: {"probes": 12, "learned": 0.4321} for kind in ("plain", "reverse")}
    row["wrong_document_of"] = {"document": "temporal with seed 1: 2018", "reason": "it was <refused>"}
    page = Page(html(found))
    assert "± 0.03" in page.words and "reverse: hidden_states" in page.words and "0.43" in page.words
    assert "The wrong document: temporal with seed 1: 2018. No wrong document: it was <refused>." in page.words
    row["by_kind"].pop("plain")
    assert "By kind" not in Page(html(found)).words  # one kind is what the table above says


def test_labels_keep_their_distance_their_order_and_their_bounds():
    placed = spread([10, 10, 11, 100, 298], 15, 14, 258)
    assert placed == sorted(placed) and placed[0] >= 14 and placed[-1] <= 258
    assert all(b - a >= 15 - 1e-9 for a, b in itertools.pairwise(placed))
    assert spread([50, 100], 15, 14, 258) == [50, 100]
    assert len(spread([5.0] * 40, 15, 14, 258)) == 40 and max(spread([5.0] * 40, 15, 14, 258)) <= 258 + 1e-6
    assert spread([], 15, 0, 1) == []


def test_markup_escapes_text_and_attributes():
    said = element("p", text("<b>"), title='"x" & y', class_="a", data_x=None)
    assert said == '<p title="&quot;x&quot; &amp; y" class="a">&lt;b&gt;</p>'
    assert text("abcdef", 4) == "abc…" and text("abc", 3) == "abc"
