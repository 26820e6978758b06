// Patterns of strings: a subset of ECMA-262 regular expressions, as byte automata of the string as
// it is written.
//
//   ^ and $    at the ends of a whole alternative; without them the pattern may match anywhere
//   literals, . [a-z] [^a-z] \d \w \s \D \W \S, \t \n \r \v \f \0 \xHH \uHHHH \u{H..}, \ and a sign
//   ( ) (?: ) |   groups; nothing is captured
//   * + ? {n} {n,} {n,m}   also lazy, which is the same here
//
// Refused by name: look-around, back references, \b \B, named groups, \p, anchors elsewhere.
// Characters are code points, as with ECMA's flag u.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "grammar/dfa.h"
#include "grammar/string_body.h"
#include "narwhal/status.h"

namespace narwhal::grammar {

struct CodeRange {
  uint32_t low, high;  // both included
};

struct Regex {
  enum Kind : uint8_t { kClass, kSequence, kChoice, kRepeat };
  static constexpr int kNoLimit = -1;
  Kind kind = kSequence;
  std::vector<CodeRange> ranges = {};  // kClass: ascending, disjoint
  std::vector<Regex> children = {};    // kRepeat: one
  int min = 0, max = 0;                // kRepeat
};

// As the whole string must look: ".*" stands where the pattern has no anchor. kUsage naming what is
// not supported and where.
Result<Regex> parse_regex(std::string_view pattern);

// The string that matches all of `patterns` with a number of characters within `bounds`, followed
// by its closer: '"' or "</". In JSON each character has one spelling: itself where RFC 8259 allows
// it, else \" \\ \b \f \n \r \t or \u00xx. An empty automaton when no string matches.
// kUsage when the automaton would be too large.
Result<Dfa> string_dfa(std::span<const Regex> patterns, StringBounds bounds, StringForm form);

// The same one spelling of a text.
std::string canonical_escape(std::string_view text);

}  // namespace narwhal::grammar
