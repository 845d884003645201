"""What the goals of actions say about faults."""

from __future__ import annotations

from medkit_gateway_py.resources.faults.aborted_actions import MAX_GOALS, ActionFaults, GoalState

EXECUTING, SUCCEEDED, CANCELED, ABORTED = 2, 4, 5, 6
ACTION = "/arm/move"


def goals(*statuses: int) -> list[GoalState]:
    return [GoalState(bytes([number]), status, float(number)) for number, status in enumerate(statuses)]


def faults() -> ActionFaults:
    made = ActionFaults()
    made.serve({ACTION: "/arm/mover"})
    assert made.take(ACTION, []) == []
    return made


def told(observations: list) -> list[tuple[str, bool, str]]:  # type: ignore[type-arg]
    return [(one.fault_code, one.failed, one.subject.name) for one in observations]


FAILED, PASSED = (("ACTION_ABORTED_ARM_MOVE", failed, "/arm/mover") for failed in (True, False))


def test_an_aborted_goal_has_failed_and_a_later_success_has_passed() -> None:
    actions = faults()
    assert actions.take(ACTION, goals(EXECUTING)) == []
    assert told(actions.take(ACTION, goals(ABORTED))) == [FAILED]
    assert actions.take(ACTION, goals(ABORTED)) == []
    assert told(actions.take(ACTION, goals(ABORTED, SUCCEEDED))) == [PASSED]
    assert actions.take(ACTION, goals(ABORTED, SUCCEEDED, SUCCEEDED)) == []
    assert told(actions.take(ACTION, goals(ABORTED, SUCCEEDED, SUCCEEDED, ABORTED))) == [FAILED]


def test_a_cancelled_goal_says_nothing() -> None:
    actions = faults()
    assert actions.take(ACTION, goals(CANCELED, EXECUTING)) == []


def test_of_what_was_before_only_the_last_end_counts() -> None:
    actions = ActionFaults()
    actions.serve({ACTION: "/arm/mover"})
    assert told(actions.take(ACTION, goals(SUCCEEDED, ABORTED, EXECUTING))) == [FAILED]
    assert actions.take(ACTION, goals(SUCCEEDED, ABORTED, EXECUTING)) == []
    other = ActionFaults()
    other.serve({ACTION: "/arm/mover"})
    assert told(other.take(ACTION, goals(ABORTED, SUCCEEDED))) == [PASSED]


def test_a_server_that_leaves_in_the_middle_of_a_goal_has_failed() -> None:
    actions = faults()
    actions.take(ACTION, goals(SUCCEEDED, EXECUTING))
    actions.serve({})
    left = actions.gone(ACTION)
    assert told(left) == [FAILED]
    assert "left in the middle of a goal" in left[0].description
    assert actions.gone(ACTION) == []


def test_a_server_that_leaves_with_nothing_to_do_has_not() -> None:
    actions = faults()
    actions.take(ACTION, goals(SUCCEEDED, CANCELED))
    assert actions.gone(ACTION) == []


def test_the_number_of_goals_is_bounded() -> None:
    actions = faults()
    many = [GoalState(number.to_bytes(4, "big"), ABORTED, float(number)) for number in range(MAX_GOALS + 10)]
    assert len(actions.take(ACTION, many)) == MAX_GOALS


def test_as_many_successes_are_told_as_it_takes_to_heal() -> None:
    actions = ActionFaults(passed_times=2)
    actions.serve({ACTION: "/arm/mover"})
    actions.take(ACTION, [])
    actions.take(ACTION, goals(ABORTED))
    told_so_far = [len(actions.take(ACTION, goals(ABORTED, *[SUCCEEDED] * count))) for count in (1, 2, 3)]
    assert told_so_far == [1, 1, 0]
