// Streaming bytes to well-formed UTF-8: tokens may end inside a character, output may not.
//
//   Detokenizer d;
//   d.push("caf\xC3");  // "caf"
//   d.push("\xA9!");    // "é!"
//   d.finish();         // "" (U+FFFD if the bytes had ended inside a character)
#pragma once

#include <string>
#include <string_view>

namespace narwhal::text {

class Detokenizer {
 public:
  // The longest text that ends on a character boundary. At most 3 bytes are held back: the start of
  // a character that is valid so far. Bytes that can no longer become valid are replaced at once,
  // one U+FFFD for each maximal subpart (what browsers and Python's errors="replace" do).
  std::string push(std::string_view bytes);

  // The end of the text: what is held back becomes U+FFFD. The object is then as new.
  std::string finish();

 private:
  std::string held_;
};

// All of it at once.
std::string to_utf8(std::string_view bytes);

}  // namespace narwhal::text
