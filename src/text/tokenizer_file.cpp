// SPDX-License-Identifier: Apache-2.0
// tokenizer.json, section by section. Whatever would change the result and is not understood is an error.
#include "base/check.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer_state.h"

namespace indexshare {

namespace {

constexpr int64_t kMaxVocabSize = 10'000'000;

struct Reader {
  const JsonObject& root;
  TokenizerPieces pieces;
  std::vector<const std::string*> spelling_of_id;  // nullptr: not seen yet

  void add(const std::string& spelling, int32_t id, const std::string& place) {
    const auto [entry, inserted] = pieces.id_of_spelling.try_emplace(spelling, id);
    if (!inserted && entry->second != id)
      fail(ErrorCode::unsupported, "{}: {}: expected id {} as in model.vocab, found {}", root.what(), place,
           entry->second, id);
    if (inserted && spelling_of_id[id])
      fail(ErrorCode::unsupported, "{}: {}: expected an id of its own, found id {} of {} too", root.what(),
           place, id, describe_json(Json(*spelling_of_id[id])));
    spelling_of_id[id] = &entry->first;
  }

  // Every id from 0 to vocab_size - 1 must be given once, so an id beyond the number of pieces is a mistake.
  void read_vocabulary(const JsonObject& model, const std::vector<AddedToken>& added) {
    const JsonObject vocab = model.required_object("vocab");
    const auto upper = static_cast<int64_t>(vocab.json().size() + added.size());
    if (upper > kMaxVocabSize) model.reject("vocab", fmt::format("at most {} pieces", kMaxVocabSize));
    if (upper == 0) model.reject("vocab", "pieces");
    spelling_of_id.assign(static_cast<size_t>(upper), nullptr);
    pieces.id_of_spelling.reserve(static_cast<size_t>(upper));
    for (const auto& [spelling, id] : vocab.json().get_ref<const Json::object_t&>()) {
      const bool good =
          id.is_number_integer() && id.is_number_unsigned() && id.get<uint64_t>() < uint64_t(upper);
      if (!good)
        fail(ErrorCode::unsupported,
             "{}: model.vocab: {}: expected an id below the number of pieces, {}, found {}", root.what(),
             describe_json(Json(spelling)), upper, describe_json(id));
      add(spelling, id.get<int32_t>(), "model.vocab: " + describe_json(Json(spelling)));
    }
    for (size_t i = 0; i < added.size(); ++i) {
      const std::string place = fmt::format("added_tokens[{}].id", i);
      if (added[i].id >= upper)
        fail(ErrorCode::unsupported, "{}: {}: expected an id below the number of pieces, {}, found {}",
             root.what(), place, upper, added[i].id);
      add(added[i].content, added[i].id, place);
    }
    const size_t count = pieces.id_of_spelling.size();
    for (size_t id = 0; id < spelling_of_id.size(); ++id)
      if ((spelling_of_id[id] != nullptr) != (id < count))
        fail(ErrorCode::unsupported,
             "{}: model.vocab: expected the ids 0 to {} without a gap, found {} id {}", root.what(),
             count - 1, spelling_of_id[id] ? "also" : "no", id);
    spelling_of_id.resize(count);
  }

  void read_pieces(const JsonObject& model, const std::vector<AddedToken>& added) {
    read_vocabulary(model, added);
    const size_t count = spelling_of_id.size();
    std::vector<uint8_t> is_added(count, 0);
    pieces.special.assign(count, 0);
    for (const AddedToken& token : added) {
      is_added[token.id] = 1;
      if (token.special) pieces.special[token.id] = 1;
    }
    pieces.bytes.resize(count);
    for (size_t id = 0; id < count; ++id) {
      auto bytes = bytes_of_spelling(*spelling_of_id[id]);
      if (!bytes && !is_added[id])
        fail(ErrorCode::unsupported, "{}: model.vocab: expected pieces in the byte-level alphabet, found {}",
             root.what(), describe_json(Json(*spelling_of_id[id])));
      pieces.bytes[id] = bytes ? std::move(*bytes) : *spelling_of_id[id];
    }
  }

  static void check_normalizer(const JsonObject& object) {
    const std::string type = object.required_string("type");
    if (type != "Sequence") object.reject("type", "no normalizer, as byte-level models have");
    size_t index = 0;
    for (const Json& child : object.required_array("normalizers"))
      check_normalizer(
          JsonObject(child, object.what(), fmt::format("{}[{}]", object.path_of("normalizers"), index++)));
  }

  static int count_byte_level_decoders(const JsonObject& object) {
    const std::string type = object.required_string("type");
    if (type == "ByteLevel") return 1;
    if (type != "Sequence") object.reject("type", "the decoder ByteLevel");
    int count = 0;
    size_t index = 0;
    for (const Json& child : object.required_array("decoders"))
      count += count_byte_level_decoders(
          JsonObject(child, object.what(), fmt::format("{}[{}]", object.path_of("decoders"), index++)));
    return count;
  }

  void check_decoder() const {
    const auto decoder = root.optional_object("decoder");
    if (!decoder) root.reject("decoder", "the decoder ByteLevel");
    if (const int count = count_byte_level_decoders(*decoder); count != 1)
      fail(ErrorCode::unsupported, "{}: decoder: expected one ByteLevel decoder, found {}", root.what(),
           count);
  }

  int32_t known_id(const JsonObject& object, std::string_view key, const Json& id) const {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= pieces.bytes.size())
      fail(ErrorCode::unsupported, "{}: {}: expected ids of the vocabulary, found {}", root.what(),
           object.path_of(key), describe_json(id));
    return id.get<int32_t>();
  }

  void read_template(const JsonObject& object, Surroundings& around) const {
    const JsonObject tokens = object.required_object("special_tokens");
    std::vector<int32_t> prefix, suffix;
    int num_sequences = 0;
    for (const Json& element : object.required_array("single")) {
      const JsonObject item(element, root.what(), object.path_of("single"));
      if (item.has("Sequence")) {
        ++num_sequences;
        continue;
      }
      const JsonObject token =
          tokens.required_object(item.required_object("SpecialToken").required_string("id"));
      for (const Json& id : token.required_array("ids"))
        (num_sequences ? suffix : prefix).push_back(known_id(token, "ids", id));
    }
    if (num_sequences != 1) object.reject("single", "exactly one Sequence");
    around.prefix.insert(around.prefix.begin(), prefix.begin(), prefix.end());
    around.suffix.insert(around.suffix.end(), suffix.begin(), suffix.end());
  }

  void read_post_processor(const JsonObject& object, Surroundings& around) const {
    const std::string type = object.required_string("type");
    if (type == "ByteLevel") return;  // it only moves offsets
    if (type == "TemplateProcessing") return read_template(object, around);
    if (type != "Sequence")
      object.reject("type", "a known post-processor (ByteLevel, TemplateProcessing, Sequence)");
    size_t index = 0;
    for (const Json& child : object.required_array("processors"))
      read_post_processor(
          JsonObject(child, object.what(), fmt::format("{}[{}]", object.path_of("processors"), index++)),
          around);
  }
};

}  // namespace

std::shared_ptr<const Tokenizer::State> read_tokenizer(const Json& document, const std::string& what) {
  const JsonObject root(document, what);
  const JsonObject model = root.required_object("model");
  if (model.optional_string("type").value_or("BPE") != "BPE") model.reject("type", "the model BPE");
  Reader reader{root, {}, {}};
  std::vector<AddedToken> added = read_added_tokens(root);
  reader.read_pieces(model, added);
  if (const auto normalizer = root.optional_object("normalizer")) Reader::check_normalizer(*normalizer);
  reader.check_decoder();
  Surroundings around;
  if (const auto processor = root.optional_object("post_processor"))
    reader.read_post_processor(*processor, around);
  const Json* pre_tokenizer = root.find("pre_tokenizer");
  PreTokenizer splitter(pre_tokenizer ? *pre_tokenizer : Json(), what);
  BytePairModel pairs(model, reader.pieces.id_of_spelling, reader.pieces.special);
  return std::make_shared<const Tokenizer::State>(
      Tokenizer::State{std::move(reader.pieces), AddedTokens(std::move(added)), std::move(splitter),
                       std::move(pairs), std::move(around)});
}

}  // namespace indexshare
