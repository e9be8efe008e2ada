"""TEMPORARY STUB by the lead until CONTEXT's file is there: overwrite it."""
def first_message(*, overview, instructions, changes, checks_section, task, quoted=""):
    parts = []
    if overview: parts.append(f"<repository>\n{overview}\n</repository>")
    if instructions: parts.append(f'<instructions file="{instructions[0]}">\n{instructions[1]}\n</instructions>')
    if changes: parts.append(f"<changes>{len(changes)} uncommitted files carried over: {', '.join(changes)}</changes>")
    if checks_section: parts.append(checks_section)
    if quoted: parts.append(f"<input>\n{quoted}\n</input>")
    return "\n\n".join([*parts, f"<task>\n{task}\n</task>"])
