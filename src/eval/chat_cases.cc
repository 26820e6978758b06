#include <fmt/format.h>

#include "eval/cases.h"
#include "eval/world.h"

namespace narwhal::eval {
namespace {

std::vector<text::Message> maybe_system(Dice& dice) {
  if (dice.chance(0.5)) return {};
  return {{.role = text::Role::kSystem, .content = std::string(dice.pick(kSystems))}};
}

Exercise neighbour_in(Dice& d, Words names, std::string_view what) {
  const int n = static_cast<int>(names.size()), i = d.below(n);
  const bool after = d.chance(0.5);
  const std::string_view word = after ? "after" : "before";
  const std::string_view answer = names[(i + (after ? 1 : n - 1)) % n];
  return {fmt::format("Which {} comes {} {}?", what, word, names[i]),
          fmt::format("{} comes {} {}.", answer, word, names[i]),
          after ? fmt::format("The user asks for the next {}.", what)
                : fmt::format("The user asks for the {} before.", what)};
}

// Something is told, perhaps other talk follows, and then it is asked for.
Case what_was_said(Dice& d, bool thinking) {
  Case c{.messages = maybe_system(d), .thinking = thinking};
  std::string question, answer, reasoning;
  if (d.chance(0.4)) {
    const std::string name = person(d);
    const std::string told[] = {fmt::format("My name is {}.", name), fmt::format("I am {}.", name),
                                fmt::format("Hello, my name is {}.", name)};
    c.messages.push_back(user_message(d.pick(told)));
    c.messages.push_back(reply_message(fmt::format("Nice to meet you, {}!", name)));
    question = d.chance(0.5) ? "What is my name?" : "Do you remember my name?";
    answer = fmt::format("Your name is {}.", name);
    reasoning = fmt::format("The user said the name {}.", name);
  } else {
    constexpr std::string_view kBefore[] = {"Remember: ", "Please remember: ", "Note: "};
    const Fact f = any_fact(d);
    c.messages.push_back(user_message(std::string(d.pick(kBefore)) + f.statement));
    c.messages.push_back(reply_message("I will remember it."));
    question = f.question;
    answer = f.answer;
    reasoning = "The user said: " + f.statement;
  }
  if (d.chance(0.5)) {
    const Exercise other = d.chance(0.5) ? about_itself(d) : general_knowledge(d);
    c.messages.push_back(user_message(other.question));
    c.messages.push_back(reply_message(other.answer));
  }
  c.messages.push_back(user_message(question));
  c.messages.push_back(reply_message(answer, reasoning));
  return c;
}

}  // namespace

text::Message user_message(std::string content) {
  return {.role = text::Role::kUser, .content = std::move(content)};
}

text::Message reply_message(std::string content, std::string reasoning) {
  return {.role = text::Role::kAssistant,
          .content = std::move(content),
          .reasoning = std::move(reasoning)};
}

Case one_question(Dice& dice, const Exercise& exercise, bool thinking) {
  Case c{.messages = maybe_system(dice), .thinking = thinking};
  c.messages.push_back(user_message(exercise.question));
  c.messages.push_back(reply_message(exercise.answer, exercise.reasoning));
  return c;
}

Exercise about_itself(Dice& dice) {
  const Exchange& e = dice.pick(kChat);
  return {std::string(dice.pick(e.asked)), std::string(e.answer), std::string(e.reasoning)};
}

Exercise general_knowledge(Dice& d) {
  using fmt::format;
  const int kind = d.below(8);
  if (kind < 2) {
    const auto& [country, city] = d.pick(kCapitals);
    if (d.chance(0.3))
      return {format("Which country has the capital {}?", city),
              format("{} is the capital of {}.", city, country), "The user asks for a country."};
    return {format(fmt::runtime(d.chance(0.5) ? "What is the capital of {}?"
                                              : "Which city is the capital of {}?"),
                   country),
            format("The capital of {} is {}.", country, city), "The user asks for a capital city."};
  }
  if (kind == 2) {
    const auto& [a, b] = d.pick(kOpposites);
    return {format("What is the opposite of {}?", a), format("The opposite of {} is {}.", a, b),
            "The user asks for an opposite."};
  }
  if (kind == 3) {
    const auto& [a, b] = d.pick(kThingColour);
    const bool sky = a == "sky";
    return {format("What colour is {}{}?", sky ? "the " : "", a),
            format("{} is {}.", sky ? "The sky" : capital(std::string(a)), b),
            "The user asks for a colour."};
  }
  if (kind == 4) {
    const auto& [a, b] = d.pick(kLegs);
    return {format("How many legs does {} have?", with_article(a)),
            format("{} has {} legs.", capital(with_article(a)), b), "The user asks about legs."};
  }
  if (kind == 5) {
    const auto& [a, b] = d.pick(kSounds);
    return {format("What sound does {} make?", with_article(a)),
            format("{} {}.", capital(with_article(a)), b), "The user asks about a sound."};
  }
  if (kind == 6) {
    const auto& [a, b] = d.pick(kYoung);
    return {format("What is a young {} called?", a),
            format("A young {} is called {}.", a, with_article(b)),
            "The user asks about a young animal."};
  }
  return d.chance(0.5) ? neighbour_in(d, kDays, "day") : neighbour_in(d, kMonths, "month");
}

Case chat_case(Dice& dice, std::string_view sub, bool thinking) {
  if (sub == "what was said") return what_was_said(dice, thinking);
  return one_question(dice, sub == "about itself" ? about_itself(dice) : general_knowledge(dice),
                      thinking);
}

OpenQuestion open_question(Dice& dice, bool thinking) {
  const std::string animal(dice.pick(kAnimals)), hero = person(dice);
  const int form = dice.below(3);
  const std::string question =
      form == 0 ? fmt::format("Tell me a story about {}.", with_article(animal))
      : form == 1
          ? fmt::format("Tell me a short story about {} called {}.", with_article(animal), hero)
          : fmt::format("Write a story about {} the {}.", hero, animal);
  OpenQuestion q{{.messages = maybe_system(dice), .thinking = thinking}, form == 0 ? animal : hero};
  q.prompt.messages.push_back(user_message(question));
  return q;
}

}  // namespace narwhal::eval
