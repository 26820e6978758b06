// Pre-tokenisation: cuts text into the pieces that byte-pair merging never crosses.
//
// The rules are DeepSeek-V3's three regular expressions, applied one inside the other:
//   1. \p{N}{1,3}
//   2. [U+4E00-9FA5 U+3040-309F U+30A0-30FF]+
//   3. [ASCII punctuation][A-Za-z]+ | [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+ |
//      ' '?[\p{P}\p{S}]+[\r\n]* | \s*[\r\n]+ | \s+(?!\S) | \s+
// Matches and the gaps between them are pieces; concatenated, the pieces are the text.
//
//   for (size_t at = 0; at < text.size(); at = end) {
//     end = piece_end(text, at);   // "  foo" -> " ", " foo"
//   }
//
// Any bytes are accepted: a byte that is not UTF-8 counts as a character without category.
#pragma once

#include <cstddef>
#include <string_view>

namespace narwhal::text {

// The end of the piece that begins at `at`, where `at` is 0 or the end of a piece and less than
// text.size(). Every call looks at most at the piece and one run of white space after it, so
// cutting a whole text is linear. Thread-safe.
size_t piece_end(std::string_view text, size_t at);

}  // namespace narwhal::text
