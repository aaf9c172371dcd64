"""The command line: parse, call, print. One file per group of verbs; ends at the entry point."""

import typer

from accrete.cli import (
    beliefs,
    benchmark,
    chat,
    checkpoints,
    compare,
    config,
    demo,
    evaluate_base,
    lessons,
    overview,
    prepare,
    pretrain,
    streams,
)
from accrete.cli.session import common

app = typer.Typer(
    name="accrete",
    help="Teach a language model new documents while it is in use; every lesson is measured and can be undone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help costs half the time of boxed help
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(invoke_without_command=True)(common)
for command in (lessons.learn, lessons.ask, chat.chat, lessons.log, lessons.show, lessons.undo, lessons.forget,
                checkpoints.save, checkpoints.load, checkpoints.checkpoints, checkpoints.export,
                beliefs.facts, beliefs.history, beliefs.why, beliefs.expect,
                overview.status, overview.domains, overview.forgetting, overview.methods, overview.doctor,
                compare.evaluate, compare.compare, benchmark.benchmark, streams.streams, streams.stream,
                demo.demo, prepare.calibrate, prepare.retrofit, pretrain.pretrain, evaluate_base.evaluate_base):  # fmt: skip
    app.command()(command)
app.add_typer(config.app)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
