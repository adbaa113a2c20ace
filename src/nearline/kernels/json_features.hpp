// {"bag": {"key": number, ...}} in JSON (RFC 8259) to numbers, where bag and keys are known beforehand. Without Python.
//
// It reads what it is told to expect, and refuses everything else: what is refused is for a parser of all of JSON.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <vector>

namespace nearline {

class JsonFeatures {
 public:
  explicit JsonFeatures(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  // `bag` and `keys` are strings of JSON, with their quotes and without escapes. Values go into `out` [keys]. False for
  // any other text, and for numbers that are not surely read as every parser reads them: see `number`.
  bool read(std::string_view bag, const std::vector<std::string_view>& keys, double* out) {
    if (!is('{') || !is(bag) || !is(':') || !is('{')) return false;
    for (size_t i = 0; i < keys.size(); ++i)
      if ((i > 0 && !is(',')) || !is(keys[i]) || !is(':') || !number(out[i])) return false;
    if (!is('}') || !is('}')) return false;
    skip_space();
    return at_ == end_;
  }

 private:
  static constexpr size_t kDigits = 15;   // an integer of so many is a double

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }
  bool is(char wanted) {
    skip_space();
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }
  bool is(std::string_view wanted) {
    skip_space();
    if (static_cast<size_t>(end_ - at_) < wanted.size() || std::string_view(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }
  // So many digits are passed over, and as many as fit are added to `value`.
  size_t digits(uint64_t& value) {
    const char* const from = at_;
    for (; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++at_) value = 10 * value + static_cast<uint64_t>(*at_ - '0');
    return static_cast<size_t>(at_ - from);
  }

  // A number as the grammar has it. Not read are a negative integer 0, integers of many digits, and what lies beyond
  // the range of a double at either end.
  bool number(double& out) {
    skip_space();
    const char* const from = at_;
    const bool negative = at_ != end_ && *at_ == '-';
    if (negative) ++at_;
    const char* const first = at_;
    uint64_t value = 0, unused = 0;   // unsigned: of too many digits it is of no use, and not used
    const size_t whole = digits(value);
    if (whole == 0 || (whole > 1 && *first == '0')) return false;
    size_t fraction = 0;
    bool integer = true, power = false;
    if (at_ != end_ && *at_ == '.') {
      ++at_;
      integer = false;
      if ((fraction = digits(value)) == 0) return false;
    }
    if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
      ++at_;
      integer = false, power = true;
      if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
      if (digits(unused) == 0) return false;
    }
    if (integer && (whole > kDigits || (negative && *first == '0'))) return false;
    if (!power && whole + fraction <= kDigits) {   // both are exact, so their quotient is the nearest double (Clinger 1990)
      out = static_cast<double>(value) / kPowers[fraction];
      if (negative) out = -out;
      return true;
    }
    const auto [end, error] = std::from_chars(from, at_, out);
    return error == std::errc() && end == at_;
  }

  static constexpr double kPowers[kDigits + 1] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                  1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

  const char* at_;
  const char* end_;
};

}  // namespace nearline
