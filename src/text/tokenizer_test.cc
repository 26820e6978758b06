#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "base/json.h"
#include "text/splitter.h"
#include "text/test_vocab.h"

namespace narwhal::text {
namespace {

const std::string kData = std::string(NARWHAL_TEST_DATA) + "/text/";

const Tokenizer& v4() {
  static const Tokenizer t = [] {
    auto vocab = v4_vocab(NARWHAL_TEST_DATA);
    if (!vocab.ok()) ADD_FAILURE() << vocab.status().message();
    return *Tokenizer::create(*vocab);
  }();
  return t;
}

const Tokenizer& tiny() {
  static const Tokenizer t = *Tokenizer::create(tiny_vocab());
  return t;
}

Json load(const std::string& name) {
  auto text = read_file(kData + name);
  EXPECT_TRUE(text.ok()) << text.status().message();
  auto json = Json::parse(*text);
  EXPECT_TRUE(json.ok()) << json.status().message();
  return *std::move(json);
}

std::vector<int32_t> ids_of(const Json& array) {
  std::vector<int32_t> ids;
  for (const Json& id : array.items) ids.push_back(static_cast<int32_t>(id.as_int(-1)));
  return ids;
}

std::vector<std::string> pieces_of(std::string_view text) {
  std::vector<std::string> pieces;
  for (size_t at = 0, end = 0; at < text.size(); at = end) {
    end = piece_end(text, at);
    if (end <= at || end > text.size()) {
      ADD_FAILURE() << "piece " << at << ".." << end << " of " << text.size();
      break;
    }
    pieces.emplace_back(text.substr(at, end - at));
  }
  return pieces;
}

using Pieces = std::vector<std::string>;

TEST(Tokenizer, ReferenceLibraryGoldens) {
  const Json cases = load("tokens.json");
  ASSERT_EQ(cases.items.size(), 303);
  for (const Json& c : cases.items) {
    EXPECT_EQ(v4().encode(c["text"].text), ids_of(c["ids"])) << c["text"].dump();
    EXPECT_EQ(v4().decode(ids_of(c["ids"])), c["text"].text);
  }
}

TEST(Splitter, TableOfPieces) {
  const Json cases = load("pieces.json");
  ASSERT_EQ(cases.items.size(), 27);
  for (const Json& c : cases.items) {
    Pieces expected;
    for (const Json& p : c["pieces"].items) expected.push_back(p.text);
    EXPECT_EQ(pieces_of(c["text"].text), expected) << c["text"].dump();
    EXPECT_EQ(v4().encode(c["text"].text), ids_of(c["ids"])) << c["text"].dump();
  }
}

TEST(Splitter, EdgesOfTheRules) {
  EXPECT_EQ(pieces_of("a  1"), (Pieces{"a", "  ", "1"}));
  EXPECT_EQ(pieces_of("~~~ ~/path"), (Pieces{"~~~", " ~/", "path"}));
  EXPECT_EQ(pieces_of(" 中"), (Pieces{" ", "中"}));
  EXPECT_EQ(pieces_of("a;\n\nb"), (Pieces{"a", ";\n\n", "b"}));
  EXPECT_EQ(pieces_of(" \r \n \t x"), (Pieces{" \r \n", " \t", " x"}));
  EXPECT_EQ(pieces_of("\n  \n"), (Pieces{"\n  \n"}));
  EXPECT_EQ(pieces_of("\t(x"), (Pieces{"\t", "(x"}));
  EXPECT_EQ(pieces_of(" (x"), (Pieces{" (", "x"}));
  EXPECT_EQ(pieces_of(".é"), (Pieces{".", "é"}));  // only ASCII letters join a sign
  EXPECT_EQ(pieces_of(".ab1"), (Pieces{".ab", "1"}));
  EXPECT_EQ(pieces_of("abé.x"), (Pieces{"abé", ".x"}));
  EXPECT_EQ(pieces_of("'sé"), (Pieces{"'s", "é"}));
  EXPECT_EQ(pieces_of("中1文"), (Pieces{"中", "1", "文"}));
  EXPECT_EQ(pieces_of(std::string_view("\0\0a\0", 4)),
            (Pieces{std::string(1, '\0'), std::string("\0a", 2), std::string(1, '\0')}));
  EXPECT_EQ(pieces_of("a\xFF\xFE\xFD"), (Pieces{"a", "\xFF\xFE\xFD"}));  // one gap, one piece
  EXPECT_EQ(pieces_of("\xFF b"), (Pieces{"\xFF", " b"}));
  EXPECT_EQ(pieces_of("\xFF中"), (Pieces{"\xFF", "中"}));
  EXPECT_EQ(pieces_of("\u3000中"), (Pieces{"\u3000", "中"}));
  EXPECT_EQ(pieces_of("\u30FB\u30FBa"), (Pieces{"\u30FB\u30FB", "a"}));
  EXPECT_EQ(pieces_of("\u0301\u0301a"), (Pieces{"\u0301\u0301a"}));
  EXPECT_EQ(pieces_of("   "), (Pieces{"   "}));
  EXPECT_EQ(pieces_of("  \u0085x"), (Pieces{"  ", "\u0085x"}));
}

std::string random_text(std::mt19937& random, int n) {
  static const std::vector<std::string> kParts = {
      " ",      "\n",       "\r",       "\t",     "a",      "Z",      "the",  "1",
      "12345",  ".",        "!",        "(x",     "中",     "ー",     "。",   "é",
      "\u0301", "я",        "👍🏽", "\u200d", "\u00a0", "\xFF",   "\xE2", "\xC3",
      "\x80",   "</think>", "｜DSML｜", "<",      "½",      "\u3000", "_",    "🧪"};
  std::string s;
  for (int i = 0; i < n; i++) s += kParts[random() % kParts.size()];
  return s;
}

TEST(Tokenizer, RoundTripsAnyBytes) {
  std::mt19937 random(1);
  for (int b = 0; b < 256; b++) {
    const std::string s(1, static_cast<char>(b));
    ASSERT_EQ(v4().encode(s).size(), 1) << b;
    ASSERT_EQ(v4().decode(v4().encode(s)), s);
  }
  for (int i = 0; i < 3000; i++) {
    std::string s = random_text(random, static_cast<int>(random() % 40));
    if (i % 3 == 0)
      for (char& c : s) c = static_cast<char>(random());
    const auto ids = v4().encode(s);
    ASSERT_EQ(v4().decode(ids), s);
    for (const int32_t id : ids) ASSERT_FALSE(v4().is_control(id));
    ASSERT_EQ(v4().decode(v4().encode_special(s)), s);
  }
}

// The cache of pieces must not show: a text twice over has the ids of its parts.
TEST(Tokenizer, RepeatedPiecesHaveTheSameIds) {
  std::mt19937 random(2);
  for (int i = 0; i < 200; i++) {
    const std::string part = random_text(random, 20) + "1";
    const std::string text = part + "a" + part;  // "1" ends a piece and "a" begins one
    std::vector<int32_t> expected;
    for (const auto& piece : pieces_of(text)) {
      const auto ids = v4().encode(piece);
      expected.insert(expected.end(), ids.begin(), ids.end());
    }
    ASSERT_EQ(v4().encode(text), expected);
  }
}

// Joins by scanning for the lowest rank, as the definition says.
std::vector<std::string> naive_bpe(const Vocab& vocab, std::string_view piece) {
  std::vector<std::string> parts;
  for (const char c : piece) parts.push_back(to_printable(std::string(1, c)));
  for (;;) {
    size_t best = vocab.merges.size(), at = 0;
    for (size_t i = 0; i + 1 < parts.size(); i++) {
      const auto found = std::find(vocab.merges.begin(), vocab.merges.begin() + best,
                                   parts[i] + " " + parts[i + 1]);
      const size_t rank = found - vocab.merges.begin();
      if (rank < best) best = rank, at = i;
    }
    if (best == vocab.merges.size()) return parts;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + at + 1);
  }
}

TEST(Bpe, EqualsTheDefinition) {
  const Vocab vocab = tiny_vocab();
  std::mt19937 random(3);
  for (int i = 0; i < 2000; i++) {
    std::string word;
    for (int n = 1 + random() % 12; n > 0; n--) word += "aaabche"[random() % 7];
    std::vector<std::string> parts;
    for (const int32_t id : tiny().encode(word)) parts.push_back(vocab.tokens[id]);
    ASSERT_EQ(parts, naive_bpe(vocab, word)) << word;
  }
}

TEST(Bpe, LongPiecesTakeLinearlyManySteps) {
  MergeTable table(3);
  ASSERT_TRUE(table.add('a', 'a', {0, 256}));
  ASSERT_TRUE(table.add(256, 256, {1, 257}));
  ASSERT_TRUE(table.add(257, 'a', {2, 258}));
  EXPECT_FALSE(table.add('a', 'a', {3, 259}));
  std::array<int32_t, 256> bytes;
  for (int b = 0; b < 256; b++) bytes[b] = b;
  for (const size_t n : {1u, 2u, 1000u, 1u << 20}) {
    BpeMerger merger(table, bytes);
    std::vector<int32_t> ids;
    merger.merge(std::string(n, 'a'), ids);
    EXPECT_EQ(ids.size(), (n + 3) / 4) << n;
    EXPECT_LE(merger.n_steps(), 3 * n);
  }
}

TEST(Tokenizer, MegabytesInOnePiece) {
  for (const char* unit : {"a", " ", "1", "\n", "!", "中", "\xFF", " \n", "\u0301", "a\u200d"}) {
    std::string s;
    while (s.size() < 1 << 20) s += unit;
    ASSERT_EQ(v4().decode(v4().encode(s)), s) << unit;
  }
}

TEST(Tokenizer, IsUsableFromSeveralThreads) {
  std::mt19937 random(4);
  const std::string text = random_text(random, 5000);
  const auto expected = v4().encode(text);
  std::vector<std::vector<int32_t>> got(4);
  std::vector<std::thread> threads;
  for (auto& ids : got) threads.emplace_back([&] { ids = v4().encode(text); });
  for (auto& t : threads) t.join();
  for (const auto& ids : got) EXPECT_EQ(ids, expected);
}

TEST(Tokenizer, ControlsOnlyOnRequest) {
  const std::string s = "x</think>y";
  for (const int32_t id : v4().encode(s)) EXPECT_LT(id, 128000);
  EXPECT_EQ(v4().encode_special(s),
            (std::vector<int32_t>{v4().encode("x")[0], 128822, v4().encode("y")[0]}));
  EXPECT_EQ(v4().encode_special("<｜User｜>"), std::vector<int32_t>{128803});
  EXPECT_EQ(v4().encode_special("</｜DSML｜"),
            (std::vector<int32_t>{v4().encode("</")[0], 128825}));
  EXPECT_EQ(v4().id_of("｜DSML｜"), 128825);
  EXPECT_EQ(v4().id_of("｜DSML"), -1);
  EXPECT_EQ(v4().id_of("the"), -1);  // a base token, no control
  EXPECT_EQ(v4().bytes(128822), "</think>");
  EXPECT_TRUE(v4().is_control(0));
  EXPECT_FALSE(v4().is_control(3));
  EXPECT_EQ(v4().bos(), 0);
  EXPECT_EQ(v4().eos(), 1);
  EXPECT_EQ(v4().pad(), 2);
  EXPECT_EQ(v4().vocab_size(), 129280);
}

TEST(Tokenizer, LongestAddedTokenWins) {
  Vocab v = tiny_vocab();
  add_control_token(v, "<<");
  add_control_token(v, "<<<");
  const int32_t two = static_cast<int32_t>(v.tokens.size()) - 2;
  const auto t = Tokenizer::create(v);
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t->encode_special("<<<<<"), (std::vector<int32_t>{two + 1, two}));
}

TEST(Tokenizer, RefusesBrokenVocabularies) {
  const auto fault = [](const auto& change) {
    Vocab v = tiny_vocab();
    change(v);
    const auto t = Tokenizer::create(v);
    EXPECT_FALSE(t.ok());
    EXPECT_EQ(t.status().code(), Code::kBadInput);
    return t.status().message();
  };
  EXPECT_NE(fault([](Vocab& v) { v.types.pop_back(); }).find("types"), std::string::npos);
  EXPECT_NE(fault([](Vocab& v) { v.tokens[3] = "｜"; }).find("alphabet"), std::string::npos);
  EXPECT_NE(fault([](Vocab& v) { v.tokens[3] = ""; }).find("empty"), std::string::npos);
  EXPECT_NE(fault([](Vocab& v) { v.tokens[3] = v.tokens[4]; }).find("twice"), std::string::npos);
  EXPECT_NE(fault([](Vocab& v) { v.tokens[3] = "zzzz"; }).find("byte 0x21"), std::string::npos);
  EXPECT_NE(fault([](Vocab& v) { v.merges[0] = "ab"; }).find("merge 0"), std::string::npos);
  EXPECT_NE(fault([](Vocab& v) { v.merges[0] = "a b c"; }).find("merge 0"), std::string::npos);
  EXPECT_NE(fault([](Vocab& v) { v.merges[1] = "q q"; }).find("merge 1"), std::string::npos);
  EXPECT_NE(fault([](Vocab& v) { v.merges[1] = v.merges[0]; }).find("twice"), std::string::npos);
  EXPECT_NE(fault([](Vocab& v) { v.tokens[1] = "<eos>"; }).find("-1"), std::string::npos);
  EXPECT_NE(fault([](Vocab& v) { v.eos = 99999; }).find("99999"), std::string::npos);
}

TEST(Vocab, ByteAlphabet) {
  EXPECT_EQ(to_printable(" \n\ta"), "ĠĊĉa");
  EXPECT_EQ(to_printable(std::string_view("\0\x7F\xA0\xAD\xFF", 5)), "ĀġłŃÿ");
  EXPECT_EQ(from_printable("Ġt"), " t");
  EXPECT_EQ(from_printable("｜"), std::nullopt);
  EXPECT_EQ(from_printable(" "), std::nullopt);  // the space itself is no letter of it
  std::string all;
  for (int b = 0; b < 256; b++) all += static_cast<char>(b);
  EXPECT_EQ(from_printable(to_printable(all)), all);
}

std::string tokenizer_json(const Vocab& v, bool pairs) {
  Json j = Json::object(), vocab = Json::object(), merges = Json::array(), added = Json::array();
  for (size_t i = 0; i < v.tokens.size(); i++) {
    const Json id = Json::of(static_cast<int64_t>(i));
    if (v.types[i] == Vocab::kNormal || i < 3) vocab.set(v.tokens[i], id);
    if (v.types[i] != Vocab::kNormal) {
      Json token = Json::object();
      token.set("id", id).set("content", Json::of(v.tokens[i])).set("special", Json::of(i < 3));
      added.push(token);
    }
  }
  for (const std::string& m : v.merges) {
    Json pair = Json::array();
    pair.push(Json::of(m.substr(0, m.find(' ')))).push(Json::of(m.substr(m.find(' ') + 1)));
    merges.push(pairs ? pair : Json::of(m));
  }
  Json model = Json::object();
  model.set("type", Json::of("BPE")).set("vocab", vocab).set("merges", merges);
  return j.set("added_tokens", added).set("model", model).dump();
}

TEST(Vocab, FromTokenizerJson) {
  const Vocab v = tiny_vocab();
  for (const bool pairs : {false, true}) {
    const auto read = vocab_from_tokenizer_json(tokenizer_json(v, pairs));
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_EQ(read->tokens, v.tokens);
    EXPECT_EQ(read->types, v.types);
    EXPECT_EQ(read->merges, v.merges);
  }
}

TEST(Vocab, RefusesOtherTokenizerFiles) {
  const auto message = [](std::string_view text) {
    const auto v = vocab_from_tokenizer_json(text);
    EXPECT_FALSE(v.ok());
    return v.status().message();
  };
  const auto has = [&](const std::string& text, const char* part) {
    EXPECT_NE(message(text).find(part), std::string::npos) << message(text);
  };
  has("{", "JSON");
  has(R"({"model": {"type": "Unigram", "vocab": {}, "merges": []}})", "Unigram");
  has(R"({"model": {"vocab": {}}})", "missing");
  has(R"({"model": {"vocab": {"a": 0, "b": 2}, "merges": []}})", "id 1");
  has(R"({"model": {"vocab": {"a": 0, "b": 0}, "merges": []}})", "id 0");
  has(R"({"model": {"vocab": {"a": -1}, "merges": []}})", "-1");
  has(R"({"model": {"vocab": {"a": 1e12}, "merges": []}})", "1e12");
  has(R"({"model": {"vocab": {"a": 0}, "merges": [["a"]]}})", "merge 0");
}

}  // namespace
}  // namespace narwhal::text
