// SPDX-License-Identifier: Apache-2.0
#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "base/check.h"
#include "text/regex_dialect.h"

namespace indexshare {

namespace {

constexpr size_t kMaxPatternBytes = 16 * 1024;
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kStepsPerByte = 3;  // a long run of spaces needs one; texts have at most 2^30 bytes
constexpr uint32_t kProbeLimit = 200'000;
constexpr uint32_t kHeapLimitKib = 64 * 1024;
constexpr size_t kJitStackBytes = 1 << 20;

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof buffer) < 0) return fmt::format("PCRE2 error {}", code);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

struct RegexScratch::State {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = nullptr;  // made when the 32 KiB that PCRE2 takes of its own do not do

  bool probing = false;

  State() {
    if (!data || !context) throw std::bad_alloc();
    pcre2_set_heap_limit(context, kHeapLimitKib);
  }
  bool grow() {
    if (stack) return false;
    stack = pcre2_jit_stack_create(64 * 1024, kJitStackBytes, nullptr);
    if (stack) pcre2_jit_stack_assign(context, nullptr, stack);
    return stack != nullptr;
  }
  ~State() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    if (stack) pcre2_jit_stack_free(stack);
  }
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {}
RegexScratch::~RegexScratch() = default;

struct Regex::State {
  std::unique_ptr<pcre2_code, CodeDeleter> code;
  std::string where;
};

Regex::Regex(std::string_view pattern, std::string where) {
  if (pattern.size() > kMaxPatternBytes)
    fail(ErrorCode::unsupported, "{}: expected a pattern of at most {} bytes, found {}", where,
         kMaxPatternBytes, pattern.size());
  const std::string translated = translate_oniguruma(pattern, where);
  // PCRE2 gives up at once where a letter the match needs is missing, which would hide an explosion from the
  // probe.
  Regex(translated, where, PCRE2_NO_START_OPTIMIZE).probe();
  *this = Regex(translated, where, 0);
}

Regex::Regex(const std::string& translated, const std::string& where, uint32_t options)
    : state_(std::make_unique<State>()) {
  state_->where = where;
  int error = 0;
  size_t offset = 0;
  state_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | options, &error, &offset,
                                   nullptr));
  if (!state_->code)
    fail(ErrorCode::unsupported, "{}: expected a valid regular expression, found: {}", where,
         pcre2_message(error));
  pcre2_jit_compile(state_->code.get(), PCRE2_JIT_COMPLETE);  // without a JIT pcre2_match interprets
}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

std::optional<Regex::Match> Regex::find(std::string_view text, size_t start, RegexScratch& scratch) const {
  RegexScratch::State& s = *scratch.state_;
  if (!s.probing)
    pcre2_set_match_limit(s.context, kMatchLimit + kStepsPerByte * static_cast<uint32_t>(text.size()));
  const int found = pcre2_match(state_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                start, PCRE2_NO_UTF_CHECK, s.data, s.context);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT && s.grow()) return find(text, start, scratch);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0)
    fail(ErrorCode::unsupported, "{}: the pattern needs too much work on this text ({})", state_->where,
         pcre2_message(found));
  const size_t* span = pcre2_get_ovector_pointer(s.data);
  return Match{span[0], std::max(span[0], span[1])};  // \K in a look-ahead can end a match before it begins
}

// Catastrophic backtracking shows on short repetitive texts already, so such a pattern is refused at load and
// not when a user's text happens to set it off.
void Regex::probe() const {
  RegexScratch scratch;
  scratch.state_->probing = true;
  pcre2_set_match_limit(scratch.state_->context, kProbeLimit);
  for (std::string_view unit : {"a", "A", "0", " ", "\n", " \n", ".", "\xe4\xb8\x80", "a ", "a'"})
    for (std::string_view end : {"", "!", "a", " ", "\x01"}) {
      std::string text;
      while (text.size() < 400) text += unit;
      text += end;
      find(text, 0, scratch);
    }
}

std::string escape_pattern(std::string_view text) {
  std::string pattern;
  for (char c : text) {
    const bool word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (!word && static_cast<unsigned char>(c) < 0x80) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace indexshare
