"""`python -m pipeline.verify LEFT RIGHT …`: are these two models the same, and if not, where and why?"""

import os
import sys
from collections.abc import Sequence

from rich.markup import escape

from pipeline.commands import command
from pipeline.console import print_and_log, say_line
from pipeline.devices.process_exit import fast_exit
from pipeline.errors import RunFailed, UserError
from pipeline.verify.alignment_table import alignment_table
from pipeline.verify.arguments import parse_arguments
from pipeline.verify.command import verify
from pipeline.verify.names.rows import Row
from pipeline.verify.report import (
    reasons,
    table_of_differences,
    table_of_lanes,
    write_json,
)
from pipeline.verify.verdict_page.page import write_page


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code: 0 same, 1 part (or bad input), 2 abstain."""
    try:
        asked = parse_arguments(arguments)
        verdict = verify(asked, say_line)
        if asked.json:
            write_json(asked.json, verdict)
        pages = write_page(verdict, asked.page) if asked.page else []
    except (UserError, RunFailed, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        see_more = f"{command('verify')} --help shows every argument."
        print(
            f"error: {error}\nHYDRA_FULL_ERROR=1 shows the traceback; {see_more}", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted: no verdict", file=sys.stderr)
        return 130
    if verdict.alignment and "left" in verdict.alignment[0]:
        print_and_log(alignment_table(Row(**row) for row in verdict.alignment))
    if verdict.differences:
        print_and_log(table_of_differences(verdict))
    if verdict.lanes:
        print_and_log(table_of_lanes(verdict))
    for reason in reasons(verdict):
        say_line(reason)
    for note in verdict.notes:
        say_line(f"note: {note}")
    colour = {0: "green", 1: "red", 2: "yellow"}[verdict.exit_code]
    print_and_log(f"[bold {colour}]{escape(verdict.sentence)}[/]", soft_wrap=True)
    if verdict.first and verdict.first.source:
        say_line(verdict.first.source)
    if verdict.cause:
        say_line(
            f"{'cause' if verdict.cause.confirmed else 'likely cause'}: {verdict.cause.remedy}"
        )
    if verdict.blame:
        say_line(verdict.blame)
    for path in filter(None, (asked.json, asked.write_names, *pages)):
        say_line(f"→  {path}")
    return verdict.exit_code


if __name__ == "__main__":
    fast_exit(main(sys.argv[1:]))
