// People, sentences and facts of Minnow's world, in the surface forms that its training text uses
// (tools/minnow/data.py). Drawn anew for every case.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "eval/dice.h"
#include "eval/words.h"

namespace narwhal::eval {

// A pronounceable word that is in no list, such as "brannok".
std::string made_up(Dice& dice, int parts = 2);
std::string person(Dice& dice);
std::string town(Dice& dice);
std::string with_article(std::string_view word);  // "an apple"
std::string capital(std::string word);            // first letter large
std::string lower(std::string_view word);
std::string joined(const std::vector<std::string>& parts, std::string_view between);

// A sentence of prose that states nothing anybody will ask for.
std::string filler(Dice& dice);

// Something stated, the question for it, and the whole answer.
struct Fact {
  std::string statement, question, answer, value;
  std::string key;  // two facts of one document never share it
};

enum class FactKind {
  kFavourite,
  kHome,
  kJob,
  kCode,
  kPassword,
  kHidden,
  kPhone,
  kPet,
  kPrice,
  kTrain,
  kSecret,
  kAge,
  kCount
};

Fact make_fact(Dice& dice, FactKind kind);
Fact any_fact(Dice& dice);

// 4 to 6 random characters: digits, or capital letters and digits.
std::string random_code(Dice& dice);

}  // namespace narwhal::eval
