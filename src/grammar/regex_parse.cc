#include <algorithm>
#include <optional>

#include "grammar/regex.h"

namespace narwhal::grammar {
namespace {

constexpr uint32_t kLastCode = 0x10FFFF;
constexpr int kMaxRepeat = 10000;
constexpr int kMaxNesting = 64;

using Ranges = std::vector<CodeRange>;

void normalise(Ranges& ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const CodeRange& a, const CodeRange& b) { return a.low < b.low; });
  Ranges out;
  for (const CodeRange& r : ranges) {
    if (!out.empty() && r.low <= out.back().high + 1)
      out.back().high = std::max(out.back().high, r.high);
    else
      out.push_back(r);
  }
  ranges = std::move(out);
}

Ranges inverse(Ranges ranges) {
  normalise(ranges);
  Ranges out;
  uint32_t next = 0;
  for (const CodeRange& r : ranges) {
    if (r.low > next) out.push_back({next, r.low - 1});
    next = r.high + 1;
  }
  if (next <= kLastCode) out.push_back({next, kLastCode});
  return out;
}

const Ranges kDigits = {{'0', '9'}};
const Ranges kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Ranges kSpace = {{9, 13},          {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680},
                       {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                       {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const Ranges kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

Regex class_of(Ranges ranges) {
  normalise(ranges);
  return {.kind = Regex::kClass, .ranges = std::move(ranges)};
}

Regex repeat(Regex child, int min, int max) {
  Regex r{.kind = Regex::kRepeat, .min = min, .max = max};
  r.children.push_back(std::move(child));
  return r;
}

std::vector<uint32_t> decode(std::string_view utf8) {
  std::vector<uint32_t> out;
  for (size_t i = 0; i < utf8.size();) {
    const auto b = static_cast<uint8_t>(utf8[i]);
    const size_t n = b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
    uint32_t c = n == 1 ? b : b & (0x7F >> n);
    for (size_t k = 1; k < n && i + k < utf8.size(); k++)
      c = c << 6 | (static_cast<uint8_t>(utf8[i + k]) & 0x3F);
    out.push_back(c);
    i += n;
  }
  return out;
}

class Parser {
 public:
  explicit Parser(std::string_view pattern) : text_(decode(pattern)) {}

  Result<Regex> whole() {
    Regex out{.kind = Regex::kChoice};
    do {
      NW_ASSIGN(Regex branch, alternative(true));
      out.children.push_back(std::move(branch));
    } while (take('|'));
    if (!at_end()) return unsupported("')' without '('");
    return out;
  }

 private:
  bool at_end() const { return at_ >= text_.size(); }
  uint32_t peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : 0;
  }
  bool take(uint32_t c) {
    if (at_end() || text_[at_] != c) return false;
    at_++;
    return true;
  }
  Status unsupported(std::string_view what) const {
    return usage(fmt::format("{} at character {} of the pattern is not supported", what, at_));
  }

  Result<Regex> alternative(bool is_outermost) {
    const Regex anything = repeat(class_of({{0, kLastCode}}), 0, Regex::kNoLimit);
    Regex out{.kind = Regex::kSequence};
    bool closed = false;
    if (is_outermost && !take('^')) out.children.push_back(anything);
    while (!at_end() && peek() != '|' && peek() != ')') {
      if (is_outermost && peek() == '$' && (at_ + 1 == text_.size() || peek(1) == '|')) {
        at_++;
        closed = true;
        break;
      }
      NW_ASSIGN(Regex a, atom());
      NW_ASSIGN(Regex q, quantified(std::move(a)));
      out.children.push_back(std::move(q));
    }
    if (is_outermost && !closed) out.children.push_back(anything);
    return out;
  }

  Result<Regex> atom() {
    switch (peek()) {
      case '^':
      case '$':
        return unsupported("an anchor that is not at an end of an alternative");
      case '(':
        return group();
      case '[':
        at_++;
        return bracket();
      case '.':
        at_++;
        return class_of(inverse(kLineEnds));
      case '*':
      case '+':
      case '?':
        return unsupported("a quantifier of nothing");
      case '\\': {
        at_++;
        NW_ASSIGN(Ranges r, escape(false));
        return class_of(std::move(r));
      }
      default: {
        const uint32_t c = text_[at_++];
        return class_of({{c, c}});
      }
    }
  }

  Result<Regex> group() {
    at_++;
    if (++depth_ > kMaxNesting) return unsupported("nesting this deep");
    if (take('?') && !take(':'))
      return unsupported(peek() == '=' || peek() == '!' || peek() == '<' ? "look-around or a name"
                                                                         : "this kind of group");
    Regex out{.kind = Regex::kChoice};
    do {
      NW_ASSIGN(Regex branch, alternative(false));
      out.children.push_back(std::move(branch));
    } while (take('|'));
    if (!take(')')) return unsupported("'(' without ')'");
    depth_--;
    return out;
  }

  Result<Regex> quantified(Regex atom) {
    int min = 1, max = 1;
    if (take('*')) {
      min = 0, max = Regex::kNoLimit;
    } else if (take('+')) {
      max = Regex::kNoLimit;
    } else if (take('?')) {
      min = 0;
    } else if (peek() == '{' && is_digit(peek(1))) {
      at_++;
      min = number();
      max = min;
      if (take(',')) max = is_digit(peek()) ? number() : Regex::kNoLimit;
      if (!take('}')) return unsupported("'{'");
      if (max != Regex::kNoLimit && max < min) return unsupported("a repetition {n,m} with m < n");
      if (min > kMaxRepeat || max > kMaxRepeat) return unsupported("a repetition above 10000");
    } else {
      return atom;
    }
    take('?');
    if (peek() == '*' || peek() == '+' || peek() == '?') return unsupported("a second quantifier");
    return repeat(std::move(atom), min, max);
  }

  static bool is_digit(uint32_t c) { return c >= '0' && c <= '9'; }
  int number() {
    int n = 0;
    for (; is_digit(peek()); at_++) n = std::min(n * 10 + static_cast<int>(peek() - '0'), 1000000);
    return n;
  }

  // After a backslash.
  Result<Ranges> escape(bool in_bracket) {
    if (at_end()) return unsupported("'\\' at the end");
    const uint32_t c = text_[at_++];
    const auto one = [](uint32_t code) { return Ranges{{code, code}}; };
    switch (c) {
      case 'd':
        return kDigits;
      case 'D':
        return inverse(kDigits);
      case 'w':
        return kWord;
      case 'W':
        return inverse(kWord);
      case 's':
        return kSpace;
      case 'S':
        return inverse(kSpace);
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 'v':
        return one('\v');
      case 'f':
        return one('\f');
      case '0':
        if (!is_digit(peek())) return one(0);
        break;
      case 'x':
        return code_escape(2);
      case 'u':
        return code_escape(4);
      case 'b':
        if (in_bracket) return one('\b');
        break;
      default:
        if (c > 0x7F || !is_word(c)) return one(c);
    }
    at_--;
    return unsupported(fmt::format("'\\{}'", static_cast<char>(c)));
  }
  static bool is_word(uint32_t c) {
    return std::any_of(kWord.begin(), kWord.end(),
                       [c](const CodeRange& r) { return c >= r.low && c <= r.high; });
  }

  std::optional<uint32_t> hex(size_t n) {
    uint32_t v = 0;
    for (size_t i = 0; i < n; i++) {
      const uint32_t c = peek(i), lower = c | 0x20;
      if (!is_digit(c) && !(lower >= 'a' && lower <= 'f')) return std::nullopt;
      v = v * 16 + (is_digit(c) ? c - '0' : lower - 'a' + 10);
    }
    at_ += n;
    return v;
  }
  Result<Ranges> code_escape(size_t n_digits) {
    std::optional<uint32_t> v;
    if (n_digits == 4 && take('{')) {
      size_t n = 0;
      while (n < 7 && peek(n) != '}' && peek(n) != 0) n++;
      v = n > 0 && n < 7 ? hex(n) : std::nullopt;
      if (!take('}')) v.reset();
    } else {
      v = hex(n_digits);
      if (v && *v >= 0xD800 && *v < 0xDC00 && peek() == '\\' && peek(1) == 'u') {
        at_ += 2;
        const auto low = hex(4);
        if (!low || *low < 0xDC00 || *low > 0xDFFF) return unsupported("a lone surrogate");
        v = 0x10000 + ((*v - 0xD800) << 10) + (*low - 0xDC00);
      }
    }
    if (!v || *v > kLastCode) return unsupported("this escape");
    if (*v >= 0xD800 && *v <= 0xDFFF) return unsupported("a lone surrogate");
    return Ranges{{*v, *v}};
  }

  // After '['.
  Result<Regex> bracket() {
    const bool inverted = take('^');
    Ranges out;
    while (!take(']')) {
      if (at_end()) return unsupported("'[' without ']'");
      NW_ASSIGN(const Ranges first, bracket_item());
      const bool is_range = peek() == '-' && peek(1) != ']' && at_ + 1 < text_.size();
      if (!is_range) {
        out.insert(out.end(), first.begin(), first.end());
        continue;
      }
      at_++;
      NW_ASSIGN(const Ranges last, bracket_item());
      const auto is_one = [](const Ranges& r) { return r.size() == 1 && r[0].low == r[0].high; };
      if (!is_one(first) || !is_one(last) || last[0].low < first[0].low)
        return unsupported("this range of characters");
      out.push_back({first[0].low, last[0].low});
    }
    return class_of(inverted ? inverse(std::move(out)) : std::move(out));
  }
  Result<Ranges> bracket_item() {
    const uint32_t c = text_[at_++];
    if (c == '\\') return escape(true);
    return Ranges{{c, c}};
  }

  std::vector<uint32_t> text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Result<Regex> parse_regex(std::string_view pattern) { return Parser(pattern).whole(); }

}  // namespace narwhal::grammar
