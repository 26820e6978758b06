"""The V4 chat template (spec: prompt section 3), as text segments.

render(messages, tools, thinking) returns a list of (text, target) pairs; target is 0 for what is read and above it, mostly 1, for what the
assistant itself wrote (text, reasoning, call blocks and the closing EOS). Special tokens appear as their literal names: all text here is
ours, so recognising them everywhere is safe.
"""
import json

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
THINK, END_THINK, DSML = "<think>", "</think>", "｜DSML｜"
REMINDER = "<｜latest_reminder｜>"

TOOLS_TEXT = """## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "<｜DSML｜tool_calls>" block like the following:

<｜DSML｜tool_calls>
<｜DSML｜invoke name="$TOOL_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$TOOL_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> BEFORE any tool calls or final response.

Otherwise, output directly after </think> with tool calls or final response.

### Available Tool Schemas

{SCHEMAS}

You MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.
"""

EFFORT = {
    "high": """Reasoning Effort: Absolute maximum with no shortcuts permitted.
You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.
Explicitly write out your entire deliberation process, documenting every intermediate step, considered alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.

""",
    "max": """Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.
You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively decompose the problem into its most fundamental components, trace every causal chain to its root, and resolve the underlying cause rather than any surface symptom.
Do not stop reasoning until you have independently verified the solution from multiple angles and are certain that no assumption remains unchecked and no error remains undiscovered.

""",
}

dumps = lambda x: json.dumps(x, ensure_ascii=False)


def call_block(calls):
    """calls: list of (name, {parameter: value}); strings raw, everything else as JSON."""
    out = []
    for name, args in calls:
        ps = [f'<{DSML}parameter name="{k}" string="{"true" if isinstance(v, str) else "false"}">'
              f'{v if isinstance(v, str) else dumps(v)}</{DSML}parameter>' for k, v in args.items()]
        out.append(f'<{DSML}invoke name="{name}">\n' + "\n".join(ps) + f"\n</{DSML}invoke>")
    return f"\n\n<{DSML}tool_calls>\n" + "\n".join(out) + f"\n</{DSML}tool_calls>"


def render(messages, tools=(), thinking=False, effort=None, keep=False):
    """messages: dicts with role system|user|assistant|tool, content, and for the assistant reasoning and calls.
    keep: leave the reasoning of earlier turns in, also where the template drops it.

    A list that ends with an assistant message is a finished conversation, otherwise a prompt ready to sample from.
    """
    msgs, turns = list(messages), []
    if tools and (not msgs or msgs[0]["role"] != "system"):
        msgs.insert(0, {"role": "system", "content": ""})
    for m in msgs:  # tool results and user texts of one turn are joined by a blank line
        if m["role"] in ("user", "tool"):
            text = m["content"] if m["role"] == "user" else f"<tool_result>{m['content']}</tool_result>"
            if turns and turns[-1]["role"] == "user":
                turns[-1]["content"] += "\n\n" + text
            else:
                turns.append({"role": "user", "content": text})
        else:
            turns.append(m)
    drop = not keep and not tools and not any(m.get("calls") or m["role"] == "tool" for m in msgs)
    last = max((i for i, m in enumerate(turns) if m["role"] == "user"), default=-1)
    out = [(BOS, 0)]
    if effort and thinking:
        out.append((EFFORT[effort], 0))
    for i, m in enumerate(turns):
        if m["role"] == "system":
            text = m["content"]
            if tools:
                text += "\n\n" + TOOLS_TEXT.replace("{SCHEMAS}", "\n".join(dumps(t) for t in tools))
            out.append((text, 0))
        elif m["role"] == "user":
            opener = THINK if thinking and (not drop or i >= last) else END_THINK
            tail = i + 1 == len(turns) or turns[i + 1]["role"] == "assistant"
            out.append((USER + m["content"] + (ASSISTANT + opener if tail else ""), 0))
        else:
            head = m.get("reasoning", "") + END_THINK if thinking and (not drop or i > last) else ""
            calls = call_block(m["calls"]) if m.get("calls") else ""
            out.append((head + m.get("content", "") + calls + EOS, getattr(m.get("content"), "weight", 1.0)))
    return out


def check_cases(path):
    """Compare with the recorded cases of the official encoder that fall inside this module's subset."""
    done = 0
    for c in json.load(open(path)):
        roles = {m["role"] for m in c["messages"]}
        plain = all(isinstance(m.get("content") or "", str) and not ({"task", "wo_eos", "response_format", "tools"} & set(m))
                    for m in c["messages"])
        if not plain or not roles <= {"system", "user", "assistant", "tool"} or "function call" in c["name"]:
            continue
        if any(m["role"] == "system" for m in c["messages"][1:]) or c.get("profile") != "preview":
            continue
        try:
            msgs = []
            order = {}
            for m in c["messages"]:
                n = {"role": m["role"], "content": m.get("content") or ""}
                if m["role"] == "assistant":
                    n["reasoning"] = m.get("reasoning_content") or ""
                    n["calls"] = [(t["function"]["name"], json.loads(t["function"]["arguments"])) for t in m.get("tool_calls") or []]
                    order = {t["id"]: k for k, t in enumerate(m.get("tool_calls") or [])}
                if m["role"] == "tool":
                    n["key"] = order.get(m.get("tool_call_id"), 0)
                msgs.append(n)
        except ValueError:
            continue
        i = 0
        while i < len(msgs):  # results in call order
            j = i
            while j < len(msgs) and msgs[j]["role"] == "tool":
                j += 1
            msgs[i:j] = sorted(msgs[i:j], key=lambda m: m["key"])
            i = max(j, i + 1)
        effort = {"max": "high"}.get(c["reasoning_effort"])
        got = "".join(t for t, _ in render(msgs, [t["function"] for t in c["tools"] or []], c["thinking"], effort))
        assert got == c["expected"], (c["name"], got, c["expected"])
        done += 1
    return done


if __name__ == "__main__":
    import os, sys
    cases = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/data/text/prompt_cases.json")
    print("cases equal:", check_cases(sys.argv[1] if len(sys.argv) > 1 else cases))
