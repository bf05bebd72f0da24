"""Blame says in one sentence what the differences of lanes come from; the table has each lane."""

from dataclasses import replace

from pipeline.verify.blame import blame
from pipeline.verify.report import reasons, table_of_lanes
from pipeline.verify.verdict import Answer, LaneEdge, Verdict
from pipeline.verify.verdict_page.page import page


def edges() -> list[LaneEdge]:
    ways = (
        ("the port", "torch eager", "JAX op by op"),
        ("the compiler of left", "torch eager", "torch.compile"),
    )
    return [
        LaneEdge(changes, precision, one, other, value, value, bar, bar, value <= bar)
        for changes, one, other in ways
        for precision, value, bar in (
            ("fp64", 2e-16, 1e-10),
            ("fp32", 1e-7, 1e-5),
            ("bf16", 3e-3, 3e-2),
        )
    ]


def test_blame_is_the_precision_alone_if_all_lanes_are_within_their_noise():
    assert blame(edges()) == (
        "the port adds nothing (2e-16 in fp64), nor do the compilers; "
        "what differs is the precision: 1e-07 in fp32 and 3e-03 in bf16, within its noise"
    )


def test_blame_names_what_is_above_its_noise_from_the_widest_precision_on():
    found = edges()
    found[4] = replace(found[4], gradients=0.25, is_within=False, reason="gradient of w")
    found[5] = replace(found[5], gradients=0.5, is_within=False)
    assert blame(found) == (
        "to blame: the compiler of left (2e-01 in fp32, above its noise); "
        "code that runs only when compiled (torch.compiler.is_compiling()) is the compiler's, too; "
        "the port adds nothing (2e-16 in fp64)"
    )
    found[0] = replace(found[0], outputs=1e-3, is_within=False)
    assert blame(found).startswith(
        "to blame: the port (1e-03 in fp64, above its noise), the compiler"
    )


def test_a_lane_that_cannot_run_has_its_reason_in_blame_and_table():
    found = edges()
    found[3] = LaneEdge(*list(vars(found[3]).values())[:4], reason="no C++ compiler")
    made = Verdict(Answer.same, "the same", lanes=found, blame=blame(found))
    assert blame(found).endswith("; not compared: the compiler of left (fp64): no C++ compiler")
    assert "nor do the compilers" not in blame(found)
    assert reasons(made) == ["the compiler of left, fp64: no C++ compiler"]
    table = table_of_lanes(made)
    assert [list(column.cells) for column in table.columns][:2] == [
        [
            "the port: torch eager – JAX op by op",
            "the compiler of left: torch eager – torch.compile",
        ],
        ["[green]2e-16, 2e-16[/]", "[yellow]not run[/]"],
    ]
    assert "not run" in page(made)
