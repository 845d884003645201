"""What log lines say about faults."""

from __future__ import annotations

from medkit_gateway_py.resources.faults import model
from medkit_gateway_py.resources.faults.log_lines import ERROR_LEVEL, FATAL_LEVEL, MAX_LOGGERS, LogFaults


def faults(**options: object) -> LogFaults:
    return LogFaults("ns.gateway", heal_after_s=60.0, **options)  # type: ignore[arg-type]


def test_errors_and_fatal_lines_of_a_node_are_two_faults() -> None:
    lines = faults()
    error = lines.take(ERROR_LEVEL, "a.talker", "broken", 0.0)
    fatal = lines.take(FATAL_LEVEL, "a.talker", "dead", 0.0)
    assert error is not None
    assert fatal is not None
    assert (error.fault_code, error.severity, error.description) == ("LOG_ERROR_A_TALKER", model.ERROR, "broken")
    assert (fatal.fault_code, fatal.severity) == ("LOG_FATAL_A_TALKER", model.CRITICAL)
    assert error.subject.name == "a.talker"


def test_lesser_lines_and_the_lines_of_the_gateway_itself_say_nothing() -> None:
    lines = faults()
    assert lines.take(30, "a.talker", "careful", 0.0) is None
    assert lines.take(ERROR_LEVEL, "ns.gateway", "mine", 0.0) is None
    assert lines.take(ERROR_LEVEL, "ns.gateway.part", "mine", 0.0) is None
    assert lines.take(ERROR_LEVEL, "ns.gateway2", "not mine", 0.0) is not None
    assert faults(min_level=FATAL_LEVEL).take(ERROR_LEVEL, "a", "x", 0.0) is None


def test_a_flood_is_told_once_a_second_and_the_latest_line_is_told_in_the_end() -> None:
    lines = faults()
    told = [lines.take(ERROR_LEVEL, "a", str(number), number / 1000) for number in range(900)]
    assert [one.description for one in told if one] == ["0"]
    assert lines.tick(0.9) == []
    assert [one.description for one in lines.tick(1.1)] == ["899"]
    assert lines.tick(1.2) == []


def test_silence_heals() -> None:
    lines = faults()
    assert lines.take(ERROR_LEVEL, "a", "x", 0.0)
    assert lines.tick(59.0) == []
    assert lines.take(ERROR_LEVEL, "a", "x", 59.5)
    assert lines.tick(110.0) == []
    passed = lines.tick(119.5)
    assert [(one.fault_code, one.failed) for one in passed] == [("LOG_ERROR_A", False)]
    assert len(lines) == 0
    other = faults(passed_times=3)
    other.take(ERROR_LEVEL, "a", "x", 0.0)
    assert len(other.tick(60.0)) == 3
    very_many = faults(passed_times=250)
    very_many.take(ERROR_LEVEL, "a", "x", 0.0)
    assert [len(very_many.tick(60.0 + number)) for number in range(4)] == [100, 100, 50, 0]


def test_a_fault_of_an_earlier_run_heals_too() -> None:
    lines = faults()
    lines.expect("LOG_ERROR_A_B", "/a/b", model.ERROR, 0.0)
    lines.expect("MOTOR_TEMP", "/a/b", model.ERROR, 0.0)
    assert [(one.fault_code, one.failed, one.subject.name) for one in lines.tick(60.0)] == [
        ("LOG_ERROR_A_B", False, "/a/b")
    ]


def test_made_up_loggers_do_not_fill_the_memory() -> None:
    lines = faults()
    for number in range(MAX_LOGGERS + 5):
        lines.take(ERROR_LEVEL, f"logger{number}", "x" * 10_000, 0.0)
    assert (len(lines), lines.refused) == (MAX_LOGGERS, 5)
