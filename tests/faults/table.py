"""Which tests show what happens at each fault; a fault without one has a reason."""

from __future__ import annotations

from msgspec import Struct

HERE = "tests/faults/test_faults.py"
INTERRUPT = "tests/e2e/test_interrupt.py"
BREAKS = "tests/servers/test_breaks.py"
WORKSPACE = "tests/test_workspace.py"
SHADOW = "tests/test_shadow.py"
TRACE = "tests/store/test_trace.py"
READING = "tests/store/test_reading.py"
PROCESS = "tests/test_process.py"
VIEWS = "tests/e2e/test_views.py"


class Fault(Struct, frozen=True):
    """One fault, what is to come of it, and the tests that show that it does."""

    id: str
    title: str
    expected: str
    tests: tuple[str, ...] = ()
    reason: str = ""


def fault(number: int, title: str, expected: str, *tests: str, reason: str = "") -> Fault:
    return Fault(f"FLT-{number:02}", title, expected, tests, reason)


ALL: tuple[Fault, ...] = (
    fault(
        1,
        "Ctrl-C while the model answers",
        "exit 130, the work kept, resumable",
        f"{HERE}::test_ctrl_c_at_a_terminal",
    ),
    fault(
        2,
        "Ctrl-C while a command runs",
        "its processes end, exit 130, resumable",
        f"{HERE}::test_ctrl_c_at_a_terminal",
        f"{INTERRUPT}::test_an_interrupted_run_resumes_to_green",
    ),
    fault(
        3,
        "Ctrl-C twice",
        "ends at once; the next command cleans up",
        f"{INTERRUPT}::test_two_interrupts_end_at_once",
    ),
    fault(
        4,
        "SIGTERM",
        "the end is in the log, exit 143, nothing left running",
        f"{INTERRUPT}::test_a_signal_ends_the_run_in_good_order",
    ),
    fault(
        5,
        "The terminal is closed",
        "as SIGTERM",
        f"{INTERRUPT}::test_a_signal_ends_the_run_in_good_order",
        f"{INTERRUPT}::test_a_hang_up_that_the_caller_ignores_stays_ignored",
    ),
    fault(
        6,
        "SIGKILL at a random moment",
        "the log is whole, resume leads to the same files",
        "tests/e2e/test_kill.py::test_kills_at_random_moments",
        f"{TRACE}::test_no_acknowledged_event_is_lost_by_kills",
    ),
    fault(
        7,
        "SIGKILL while the worktree is made",
        "the next command removes what was half made",
        f"{WORKSPACE}::test_a_kill_while_the_worktree_is_made",
        f"{SHADOW}::test_twenty_killed_starts_leave_nothing",
    ),
    fault(
        8,
        "SIGKILL at a ref of the user's repository",
        "the ref is there or not, no lock is left",
        f"{SHADOW}::test_twenty_killed_starts_leave_nothing",
    ),
    fault(
        9,
        "SIGKILL while a change is landed",
        "the next command finishes it",
        "tests/test_landing.py::test_a_landing_that_is_killed_is_finished_by_the_next",
    ),
    fault(
        10,
        "Power loss",
        "every state that fsync allows is readable",
        f"{TRACE}::test_cut_off_at_every_byte_of_the_last_record",
        "tests/test_landing.py::test_a_landing_that_is_killed_is_finished_by_the_next",
        reason="cuts and kills are tried; a disk that loses writes is not",
    ),
    fault(
        11,
        "A torn last line",
        "only it is dropped",
        f"{TRACE}::test_cut_off_at_every_byte_of_the_last_record",
        f"{INTERRUPT}::test_a_torn_last_line_is_dropped",
    ),
    fault(
        12,
        "A short write",
        "no line is broken in the middle",
        f"{TRACE}::test_a_full_disk_leaves_whole_lines_and_names_the_file",
    ),
    fault(
        13,
        "The disk of the state is full",
        "the run ends with exit 1 and names the file",
        f"{VIEWS}::test_a_disk_that_fills_ends_the_run_cleanly",
        f"{TRACE}::test_a_small_file_system_that_fills",
    ),
    fault(
        14,
        "The disk of the worktree is full",
        "the command fails, the model is told, the checkout is as it was",
        f"{HERE}::test_a_command_that_fills_the_disk",
    ),
    fault(
        15,
        "State or repository cannot be written",
        "a sentence before the model is asked",
        f"{HERE}::test_what_cannot_be_written_is_said_before_the_model_is_asked",
    ),
    fault(16, "No more files can be made", "as a full disk", f"{HERE}::test_no_inodes_are_left"),
    fault(17, "No server", "exit 6, the URL named", "tests/e2e/test_bad_input.py::test_unreachable_endpoint"),
    fault(
        18,
        "The server restarts in the middle",
        "asked again, no call runs twice",
        f"{BREAKS}::test_a_call_whose_reply_broke_runs_once",
        f"{BREAKS}::test_no_effect_is_repeated_when_every_second_reply_breaks",
    ),
    fault(
        19,
        "The server says nothing",
        "deadlines",
        f"{BREAKS}::test_a_stall_is_counted_and_asked_again",
        f"{BREAKS}::test_a_server_that_works_on_nothing_has_lost_the_request",
    ),
    fault(
        20,
        "The server is slow",
        "waited for while it works",
        f"{BREAKS}::test_a_silent_server_that_works_is_waited_for",
        f"{BREAKS}::test_progress_of_the_prompt_is_a_sign_of_life_and_shown",
    ),
    fault(
        21,
        "The server is overloaded",
        "waits as told, up to a limit",
        "tests/servers/test_refusals.py::test_retry_after_is_kept",
        "tests/servers/test_refusals.py::test_a_retry_after_of_days_is_cut",
    ),
    fault(22, "The context is too long", "made shorter, or a clean end", "tests/e2e/test_overflow.py"),
    fault(
        23,
        "A test suite that hangs",
        "killed, its output kept, the model told",
        f"{PROCESS}::test_timeout_kills_a_daemon_and_what_ignores_sigterm",
        "tests/e2e/test_do.py::test_time_budget_ends_a_hanging_command",
    ),
    fault(
        24,
        "Gigabytes of output",
        "both ends kept, little memory",
        f"{PROCESS}::test_huge_output_takes_little_memory",
    ),
    fault(
        25,
        "Output that is no text",
        "shown with marks, exact in its file",
        f"{PROCESS}::test_log_has_the_exact_bytes_and_the_text_is_readable",
    ),
    fault(26, "The wall clock jumps", "nothing depends on it", f"{HERE}::test_the_wall_clock_jumps"),
    fault(27, "Suspend and resume", "the run goes on", f"{HERE}::test_pool_is_stopped_for_a_while"),
    fault(
        28,
        "Eight runs at once",
        "all end well",
        f"{HERE}::test_eight_runs_at_once",
        f"{WORKSPACE}::test_eight_at_once",
    ),
    fault(
        29,
        "Two resume the same run",
        "the second is refused",
        f"{INTERRUPT}::test_a_running_run_cannot_be_resumed_or_discarded",
    ),
    fault(
        30,
        "The lock of a dead process",
        "free at once",
        f"{TRACE}::test_no_acknowledged_event_is_lost_by_kills",
    ),
    fault(
        31,
        "The user is in a rebase or a merge",
        "a run works, nothing of it changes",
        f"{WORKSPACE}::test_something_is_in_progress",
        f"{SHADOW}::test_the_user_is_in_the_middle_of_something",
    ),
    fault(
        32,
        "The user holds the lock of the index",
        "a run works",
        f"{WORKSPACE}::test_the_user_holds_the_index_lock",
    ),
    fault(
        33,
        "The user commits, switches and collects garbage meanwhile",
        "the run keeps its base and lands",
        f"{HERE}::test_the_user_works_on_during_the_run",
        f"{SHADOW}::test_the_user_amends_and_collects_garbage_under_a_clean_run",
    ),
    fault(
        34,
        "The user deletes the worktree",
        "a clear end",
        f"{HERE}::test_the_worktree_is_deleted_during_the_run",
        f"{WORKSPACE}::test_the_worktree_vanishes",
    ),
    fault(
        35,
        "Leftovers of killed runs",
        "only what is dead goes; unsaved work stays",
        f"{SHADOW}::test_twenty_killed_starts_leave_nothing",
        f"{WORKSPACE}::test_work_that_cannot_be_saved_stays_and_is_named",
    ),
    fault(
        36,
        "A kill at every event of a run",
        "resume leads to the same files, nothing happens twice",
        f"{HERE}::test_a_kill_at_every_event",
        "tests/e2e/test_kill.py::test_kills_at_random_moments",
    ),
    fault(
        37,
        "A kill between an effect and its record",
        "its outcome is unknown, it is never repeated",
        f"{INTERRUPT}::test_after_a_kill_the_next_command_saves_the_work_and_resume_goes_on",
    ),
    fault(
        38,
        "State of another version",
        "read, or refused in words",
        f"{READING}::test_a_log_of_a_newer_version_is_refused",
        f"{READING}::test_the_golden_log_holds_every_stored_type_and_is_read_whole",
        f"{READING}::test_unknown_types_count_and_are_reported",
    ),
    fault(
        39,
        "Damaged state",
        "that run is refused, others are not",
        f"{HERE}::test_random_damage_is_refused_or_read",
        f"{HERE}::test_a_damaged_run_beside_a_good_one",
        f"{READING}::test_damage_in_the_middle_is_refused_by_line",
    ),
    fault(
        40,
        "Uncommitted work of every kind",
        "carried over byte for byte, the index untouched",
        f"{WORKSPACE}::test_every_kind_of_change_is_carried_over_and_nothing_is_touched",
        f"{SHADOW}::test_settings_that_decide_about_content",
    ),
    fault(
        41,
        "Repositories of every shape",
        "work, or one sentence",
        f"{SHADOW}::test_shapes_of_repositories",
        f"{SHADOW}::test_git_works_in_odd_folders",
        "tests/e2e/test_bad_input.py::test_bare_repository",
        "tests/e2e/test_bad_input.py::test_unborn_head",
    ),
    fault(
        42,
        "A repository of another user",
        "one sentence with the fix",
        "tests/test_git.py::test_a_repository_of_another_user",
    ),
    fault(
        43,
        "Output that is closed or full",
        "the work goes on, no traceback",
        f"{VIEWS}::test_stderr_and_stdout_on_a_full_device",
        f"{INTERRUPT}::test_a_closed_stdout_does_not_end_the_work",
    ),
    fault(
        44,
        "No terminal, an unknown one, one column, a resize",
        "no crash",
        f"{HERE}::test_odd_terminals",
        f"{VIEWS}::test_on_a_terminal",
    ),
    fault(45, "A locale without Unicode", "no error", f"{VIEWS}::test_a_locale_without_unicode"),
    fault(46, "Low limits", "works, or a sentence", f"{HERE}::test_low_limits"),
    fault(
        47,
        "The thread that started a sandbox ends",
        "the command lives on",
        f"{HERE}::test_threads_that_end_take_no_command_along",
    ),
)


def page() -> str:
    """The table of docs/faults.md."""
    lines = ["| fault | what happens | what comes of it | shown in |", "| --- | --- | --- | --- |"]
    for one in ALL:
        where = ", ".join(
            dict.fromkeys(f"`{test.partition('::')[0].removeprefix('tests/')}`" for test in one.tests)
        )
        lines.append(
            f"| {one.id} | {one.title} | {one.expected} | {where}{f' ({one.reason})' if one.reason else ''} |"
        )
    return "\n".join(lines) + "\n"
