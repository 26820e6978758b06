// The words of Minnow's world, the same as those of the training generator (tools/minnow/words.py,
// data.py, tools_data.py); words.cc is made from there by tools/minnow/words_table.py.
//
// Constant data; any thread.
#pragma once

#include <span>
#include <string_view>

namespace narwhal::eval {

using Words = std::span<const std::string_view>;
struct Pair {
  std::string_view first, second;
};
using Pairs = std::span<const Pair>;

extern const Words kNames, kAnimals, kColours, kFoods, kObjects, kAdj, kPlaces, kTowns, kJobs,
    kNouns, kSky, kDays, kMonths, kNums, kExts, kDirs, kStems;
extern const Words kOn, kVo, kCo;  // beginnings, vowels and ends of made-up words
extern const Words kFillers;       // sentences with {adj}, {animal}, {name2} ... to fill in
extern const Pairs kCapitals, kOpposites, kThingColour, kLegs, kSounds, kYoung;
extern const Words kSystems;  // system texts of plain conversations
extern const Words kIntros;   // and of those with tools
extern const Words kErrors;   // results of tools that failed

// One of several questions, the answer, and the reasoning before it.
struct Exchange {
  Words asked;
  std::string_view answer, reasoning;
};
extern const std::span<const Exchange> kChat;

struct Parameter {
  std::string_view key;  // what the task calls it
  Words names;           // what the schema may call it
  std::string_view type, description;
  std::string_view agent_name;  // its name in the fixed tools of coding agents
};
struct ToolFamily {
  std::string_view key;
  Words names, descriptions;
  std::span<const Parameter> parameters;
  std::string_view agent_name;  // empty: no tool of coding agents
};
extern const std::span<const ToolFamily> kFamilies;

struct ExtraParameter {
  std::string_view name, type, description;
};
extern const std::span<const ExtraParameter> kExtraParameters;

}  // namespace narwhal::eval
