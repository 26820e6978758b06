"""Writes the word lists of words.py, and what else the evaluation shares with the generator, as a C++ table.

    python3 tools/minnow/words_table.py | clang-format > src/eval/words.cc
"""
import data, tools_data, words

LISTS = """NAMES ANIMALS COLOURS FOODS OBJECTS ADJ PLACES TOWNS JOBS NOUNS SKY DAYS MONTHS NUMS EXTS DIRS STEMS ON VO CO FILLERS""".split()
PAIRS = "CAPITALS OPPOSITES THING_COLOUR LEGS SOUNDS YOUNG".split()

quoted = lambda s: '"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"'
camel = lambda s: "k" + "".join(p.capitalize() for p in s.split("_"))


def strings(name, items):
    print(f"constexpr std::string_view {name}Items[] = {{{', '.join(map(quoted, items))}}};")


def main():
    print("// Made by tools/minnow/words_table.py from the training generator's lists; do not edit.\n#include \"eval/words.h\"\n")
    print("namespace narwhal::eval {\nnamespace {")
    for n in LISTS:
        strings(camel(n), getattr(words, n))
    for n in PAIRS:
        print(f"constexpr Pair {camel(n)}Items[] = {{{', '.join('{' + quoted(a) + ', ' + quoted(b) + '}' for a, b in getattr(words, n).items())}}};")
    for i, (asked, said, why) in enumerate(data.CHAT):
        strings(f"kAsked{i}", asked)
    print("constexpr Exchange kChatItems[] = {" + ", ".join(f"{{kAsked{i}Items, {quoted(a)}, {quoted(w)}}}" for i, (_, a, w) in enumerate(data.CHAT)) + "};")
    strings("kSystems", data.SYSTEMS)
    strings("kIntros", tools_data.INTROS)
    strings("kErrors", tools_data.ERRORS)
    for f, (names, texts, params) in tools_data.FAMILIES.items():
        strings(f"kNames_{f}_", names)
        strings(f"kTexts_{f}_", texts)
        for k, (options, _, _) in params.items():
            strings(f"kOptions_{f}_{k}_", options)
        if params:
            print(f"constexpr Parameter kParameters_{f}_[] = {{" + ", ".join(
                f"{{{quoted(k)}, kOptions_{f}_{k}_Items, {quoted(t)}, {quoted(d)}, {quoted(tools_data.AGENT.get(f, ('', {}))[1].get(k, ''))}}}" for k, (_, t, d) in params.items()) + "};")
    print("constexpr ToolFamily kFamiliesItems[] = {" + ", ".join(
        f"{{{quoted(f)}, kNames_{f}_Items, kTexts_{f}_Items, {'kParameters_' + f + '_' if p else '{}'}, {quoted(tools_data.AGENT.get(f, ('',))[0])}}}"
        for f, (_, _, p) in tools_data.FAMILIES.items()) + "};")
    print("constexpr ExtraParameter kExtraParametersItems[] = {" + ", ".join("{" + ", ".join(map(quoted, e)) + "}" for e in tools_data.EXTRA) + "};")
    print("}  // namespace\n")
    for n in [camel(n) for n in LISTS] + ["kSystems", "kIntros", "kErrors"]:
        print(f"const Words {n} = {n}Items;")
    for n in map(camel, PAIRS):
        print(f"const Pairs {n} = {n}Items;")
    print("const std::span<const Exchange> kChat = kChatItems;\nconst std::span<const ToolFamily> kFamilies = kFamiliesItems;")
    print("const std::span<const ExtraParameter> kExtraParameters = kExtraParametersItems;")
    print("}  // namespace narwhal::eval")


if __name__ == "__main__":
    main()
