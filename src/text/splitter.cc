#include "text/splitter.h"

#include "text/unicode.h"

namespace narwhal::text {
namespace {

constexpr uint8_t kWord = kLetter | kMark;
constexpr uint8_t kSign = kPunctuation | kSymbol;
// What a cursor reports past the end of its segment; no class has this bit.
constexpr uint8_t kEnd = 128;

bool is_ascii_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }
bool is_line_break(char c) { return c == '\r' || c == '\n'; }

// Walks the characters of one segment: a maximal run inside which stages 1 and 2 cut nothing. Its
// end is found on the way, where a number or the other kind of script (Han and kana or not) begins.
class Cursor {
 public:
  Cursor(std::string_view text, size_t at) : text_(text), table_(class_table()), at_(at) {
    read();
    han_ = raw_ & kHanKana;
  }
  size_t at() const { return at_; }
  char byte() const { return text_[at_]; }
  bool at_number() const { return raw_ & kNumber; }
  bool at_end() const { return raw_ == kEnd || at_number() || (raw_ & kHanKana) != han_; }
  // Class of the current character without the script bit; kEnd past the segment.
  uint8_t cls() const { return at_end() ? kEnd : raw_ & ~kHanKana; }
  bool is(uint8_t classes) const { return cls() & classes; }
  void step() {
    at_ += length_;
    read();
  }
  void skip(uint8_t classes) {
    while (is(classes)) step();
  }

 private:
  void read() {
    raw_ = kEnd;
    length_ = 1;
    if (at_ >= text_.size()) return;
    const auto b = static_cast<uint8_t>(text_[at_]);
    if (b < 0x80) {
      raw_ = table_[b];
      return;
    }
    const Utf8Char c = utf8_decode(text_, at_);
    const bool valid = c.state == Utf8Char::kValid;
    raw_ = valid ? table_[c.code] : uint8_t{kOther};
    length_ = valid ? c.length : 1;
  }

  std::string_view text_;
  const ClassTable& table_;
  size_t at_;
  uint8_t raw_ = kEnd, han_ = 0, length_ = 1;
};

size_t number_end(Cursor c) {
  for (int n = 0; n < 3 && c.at_number(); n++) c.step();
  return c.at();
}

// A run of white space that no word or sign took the first blank of.
size_t space_end(Cursor c) {
  size_t after_break = 0, last = c.at();
  const size_t begin = c.at();
  while (c.is(kSpace)) {
    last = c.at();
    const bool line_break = is_line_break(c.byte());
    c.step();
    if (line_break) after_break = c.at();
  }
  if (after_break) return after_break;             // \s*[\r\n]+
  if (c.at_end() || last == begin) return c.at();  // \s+(?!\S) at the end; \s+ of one blank
  return last;                                     // \s+(?!\S): the last blank goes to what follows
}

size_t signs_end(Cursor c) {
  c.skip(kSign);
  while (!c.at_end() && is_line_break(c.byte())) c.step();
  return c.at();
}

// Characters that match nothing, up to one that begins a match.
size_t gap_end(Cursor c) {
  size_t before_last = c.at();
  while (c.cls() == kOther) {
    before_last = c.at();
    c.step();
  }
  return c.is(kWord) ? before_last : c.at();  // the last one leads the word that follows
}

}  // namespace

size_t piece_end(std::string_view text, size_t at) {
  Cursor c(text, at);
  if (c.at_number()) return number_end(c);

  const char first = c.byte();
  Cursor next = c;
  next.step();
  if (c.is(kSign)) {
    if (static_cast<uint8_t>(first) < 0x80 && !next.at_end() && is_ascii_letter(next.byte())) {
      size_t end = next.at();
      while (end < text.size() && is_ascii_letter(text[end])) end++;
      return end;
    }
    return signs_end(c);
  }
  if (c.is(kWord) || (!is_line_break(first) && next.is(kWord))) {
    next.skip(kWord);
    return next.at();
  }
  if (first == ' ' && next.is(kSign)) return signs_end(next);
  if (c.is(kSpace)) return space_end(c);
  return gap_end(c);
}

}  // namespace narwhal::text
