// A request's candidates to linear predictors, to what is said of those that are shown, and under the greedy policy to
// both in one call. Features and beliefs lie in tables, as gathered.cpp has them.
#include <cmath>
#include <string_view>

#include "gathered.hpp"
#include "names.hpp"
#include "top.hpp"

namespace nb = nanobind;

namespace nearline {
namespace {

// out_c <- x_c' m of the entity of candidate c. The rows x_c are not made: what all candidates share meets a belief once
// where that is of all, and kept rows and features of each meet it where they lie.
void means_of(const std::vector<Part<int64_t>>& parts, const Kept& kept, const Believed& beliefs, int64_t count,
              double* out) {
  const int64_t columns = beliefs.columns;
  const bool one = beliefs.slots == 1;
  static thread_local std::vector<double> base, weight;
  shared_row(parts, columns, base);
  const double of_all = one ? dot(base.data(), beliefs.mean_of(0), columns) : 0.0;
  for (int64_t c = 0; c < count; ++c) {
    if (!one && c + kAhead < count) prefetch(beliefs.mean_of(c + kAhead), columns);
    if (kept.table && c + kAhead < count && kept.at[c + kAhead] >= 0)
      prefetch(kept.table.data() + kept.at[c + kAhead] * columns, columns);
    const double* mean = beliefs.mean_of(c);
    out[c] = one ? of_all : dot(base.data(), mean, columns);
    if (kept.table && kept.at[c] >= 0) out[c] += dot(kept.table.data() + kept.at[c] * columns, mean, columns);
  }
  for (const auto& part : parts) {
    const int64_t m = part.number.size();
    for (int64_t e = 0; part.row && e < m; ++e)
      if (const int64_t column = part.entry(e); column >= 0)
        out[part.row[e]] += beliefs.mean_of(part.row[e])[column] * part.values[e];
    if (part.of_all || part.row || !part.is_known()) continue;
    weight.assign(static_cast<size_t>(m), 0.0);
    for (int64_t c = 0; c < count; ++c) {
      if (c == 0 || !one)
        for (int64_t j = 0; j < m; ++j)
          if (const int64_t column = part.entry(j); column >= 0) weight[static_cast<size_t>(j)] = beliefs.mean_of(c)[column];
      out[c] += dot(weight.data(), part.values.data() + c * m, m);
    }
  }
}

// One effect, by tables: parts, kept rows, means, precisions, slots, columns, whether precisions are full.
struct Effect {
  std::vector<Part<int64_t>> parts;
  Kept kept;
  Array<const int64_t> slots;
  Believed beliefs;

  Effect(const nb::tuple& given, nb::handle at, int64_t count)
      : parts(read_parts<int64_t>(given[0], count)), kept(given[1], at, count, nb::cast<int64_t>(given[5])),
        slots(given[4], "slots"), beliefs(given[2], given[3], slots.data(), slots.size(), count,
                                          nb::cast<int64_t>(given[5]), nb::cast<bool>(given[6])) {
    require_columns(parts, beliefs.columns);
  }
};

constexpr size_t kByTables = 7;

// The linear predictors of a request's candidates. An effect is given by tables, or by what it adds to each candidate.
void request_means(nb::list fixed_parts, nb::handle fixed_kept, nb::handle at, double intercept, nb::list effects,
                   nb::handle offset_array, nb::handle fixed_out, nb::handle linear_out) {
  const Array<const double> offset(offset_array, "offset");
  const Array<double> fixed(fixed_out, "fixed_out"), linear(linear_out, "linear_out");
  const int64_t count = offset.size();
  require_that(fixed.size() == count && linear.size() == count, "expected a value for each candidate");
  std::fill_n(fixed.data(), count, intercept);
  add_linear_parts(read_parts<double>(fixed_parts, count), Kept(fixed_kept, at, count, 1), count, fixed.data());
  for (int64_t c = 0; c < count; ++c) linear[c] = fixed[c] + offset[c];
  static thread_local std::vector<double> added;
  added.resize(static_cast<size_t>(count));
  for (nb::handle one : effects) {
    const auto given = nb::cast<nb::tuple>(one);
    if (given.size() == kByTables) {
      const Effect effect(given, at, count);
      means_of(effect.parts, effect.kept, effect.beliefs, count, added.data());
      for (int64_t c = 0; c < count; ++c) linear[c] += added[static_cast<size_t>(c)];
    } else {
      require_that(given.size() == 1, "an effect is given by tables, or by its means");
      const Array<const double> means(given[0], "means");
      require_that(means.size() == count, "means: expected one for each candidate");
      for (int64_t c = 0; c < count; ++c) linear[c] += means[c];
    }
  }
}

// What is said of the candidates at `places`, a row each of `out` [5 + 2 effects][places]: offset, fixed, linear
// predictor, its variance and standard deviation, then mean and variance of each effect. An effect is given by tables,
// or by means and variances. Returns the first slot whose belief cannot be used, -1 if there is none.
int64_t request_parts(nb::list effects, nb::handle at, nb::handle place_array, nb::handle offset_array,
                      nb::handle fixed_array, nb::handle widened_array, double noise, nb::handle out_array) {
  const Array<const double> offset(offset_array, "offset"), fixed(fixed_array, "fixed"), widened(widened_array, "widened");
  const Array<double> out(out_array, "out");
  const int64_t count = offset.size();
  require_that(!place_array.is_none(), "places: expected an array");
  const Wanted places(place_array, count);
  const int64_t n = places.size();
  require_that(fixed.size() == count && (!widened || widened.size() == count), "expected a value for each candidate");
  require_that(out.size() == n * static_cast<int64_t>(5 + 2 * effects.size()), "out: expected a row for each number");
  double *linear = out.data() + 2 * n, *variance = linear + n, *std = variance + n, *next = std + n;
  for (int64_t i = 0; i < n; ++i) {
    out[i] = offset[places[i]];
    out[n + i] = fixed[places[i]];
    linear[i] = fixed[places[i]] + offset[places[i]];
    variance[i] = widened ? widened[places[i]] : 0.0;
  }
  for (nb::handle one : effects) {
    const auto given = nb::cast<nb::tuple>(one);
    if (given.size() == kByTables) {
      const Effect effect(given, at, count);
      if (const int64_t failed = score_candidates(effect.parts, effect.kept, effect.beliefs, places, next, next + n); failed >= 0)
        return failed;
    } else {
      require_that(given.size() == 2, "an effect is given by tables, or by its means and variances");
      const Array<const double> means(given[0], "means"), variances(given[1], "variances");
      require_that(means.size() == n && variances.size() == n, "expected a value for each place");
      std::copy_n(means.data(), n, next);
      std::copy_n(variances.data(), n, next + n);
    }
    for (int64_t i = 0; i < n; ++i) {
      linear[i] += next[i];
      variance[i] += next[n + i];
    }
    next += 2 * n;
  }
  for (int64_t i = 0; i < n; ++i) std[i] = std::sqrt(variance[i] + noise);
  return -1;
}

// One effect whose entities are yet to be found: parts, kept rows, means, precisions, columns, whether precisions are
// full, the index of entities, by slot whether it was asked for, by slot its version, and the entity of all candidates;
// None where each candidate is one by its name.
struct Sought {
  std::vector<int64_t> slots;
  std::vector<Part<int64_t>> parts;
  Kept kept;
  Array<uint8_t> asked;
  Array<const int64_t> version;
  int64_t columns;
  bool full;
  nb::tuple given;
  int64_t lacking;

  Sought(const nb::tuple& given_, nb::handle names, nb::handle at, int64_t count)
      : parts(read_parts<int64_t>(given_[0], count)), kept(given_[1], at, count, nb::cast<int64_t>(given_[4])),
        asked(given_[7], "asked"), version(given_[8], "version"), columns(nb::cast<int64_t>(given_[4])),
        full(nb::cast<bool>(given_[5])), given(given_) {
    require_columns(parts, columns);
    const auto& index = nb::cast<const Names&>(given[6]);
    if (given[9].is_none()) {
      slots.resize(static_cast<size_t>(count));
      lacking = index.find(names, slots.data(), count);
    } else {
      slots.push_back(index.get(given[9]));
      lacking = slots[0] < 0;
    }
    for (const int64_t slot : slots)
      require_that(slot < version.size() && slot < asked.size(), "slots: out of range");
  }
  Believed beliefs(int64_t count) const {
    return {given[2], given[3], slots.data(), static_cast<int64_t>(slots.size()), count, columns, full};
  }
};

constexpr size_t kSought = 10;

// The `k` candidates of the highest linear predictors, first to last: their places, [effects][k] the versions of their
// entities' records, and what is said of them: [6 + 2 effects][k], as of `request_parts` with the linear predictors they
// were ranked by before the effects' parts. Returns 0; how many entities have no slot, and nothing is written but slots
// that were asked for; or -1 less a slot whose belief cannot be used.
int64_t highest(nb::handle names, nb::list fixed_parts, nb::handle fixed_kept, nb::handle at, double intercept,
                nb::list effect_list, nb::handle offset_array, double noise, nb::handle place_array,
                nb::handle version_array, nb::handle out_array) {
  const Array<const double> offset(offset_array, "offset");
  const Array<int64_t> place(place_array, "places"), versions(version_array, "versions");
  const Array<double> out(out_array, "out");
  const int64_t count = offset.size(), k = place.size(), effects = static_cast<int64_t>(effect_list.size());
  require_that(k <= count, "places: expected no more than there are candidates");
  require_that(versions.size() == effects * k && out.size() == (6 + 2 * effects) * k, "expected a row for each number");
  std::vector<Sought> sought;
  sought.reserve(static_cast<size_t>(effects));
  int64_t lacking = 0;
  for (nb::handle one : effect_list) {
    const auto given = nb::cast<nb::tuple>(one);
    require_that(given.size() == kSought, "an effect is given by tables and an index");
    lacking += sought.emplace_back(given, names, at, count).lacking;
  }
  if (lacking > 0) return lacking;

  static thread_local std::vector<double> fixed, linear, added;
  static thread_local std::vector<int64_t> order;
  fixed.assign(static_cast<size_t>(count), intercept);
  add_linear_parts(read_parts<double>(fixed_parts, count), Kept(fixed_kept, at, count, 1), count, fixed.data());
  linear.resize(static_cast<size_t>(count));
  added.resize(static_cast<size_t>(count));
  for (size_t c = 0; c < linear.size(); ++c) linear[c] = fixed[c] + offset[static_cast<int64_t>(c)];
  for (const Sought& effect : sought) {
    for (const int64_t slot : effect.slots) effect.asked[slot] = 1;
    means_of(effect.parts, effect.kept, effect.beliefs(count), count, added.data());
    for (size_t c = 0; c < linear.size(); ++c) linear[c] += added[c];
  }
  find_top(linear.data(), count, k, place.data(), order);

  const Wanted wanted(place_array, count);
  double *sum = out.data() + 2 * k, *variance = sum + k, *std = variance + k, *score_out = std + k, *next = score_out + k;
  for (int64_t i = 0; i < k; ++i) {
    const auto c = static_cast<size_t>(place[i]);
    out[i] = offset[place[i]];
    out[k + i] = fixed[c];
    sum[i] = fixed[c] + offset[place[i]];
    variance[i] = 0.0;
    score_out[i] = linear[c];
  }
  int64_t* version = versions.data();
  for (const Sought& effect : sought) {
    const Believed beliefs = effect.beliefs(count);
    if (const int64_t failed = score_candidates(effect.parts, effect.kept, beliefs, wanted, next, next + k); failed >= 0)
      return -1 - failed;
    for (int64_t i = 0; i < k; ++i) {
      sum[i] += next[i];
      variance[i] += next[k + i];
      *version++ = effect.version[beliefs.slot_of(place[i])];
    }
    next += 2 * k;
  }
  for (int64_t i = 0; i < k; ++i) std[i] = std::sqrt(variance[i] + noise);
  return 0;
}

}  // namespace

void define_answers(nb::module_& module) {
  module.def("request_means", &request_means, nb::arg("fixed"), nb::arg("kept").none(), nb::arg("at").none(),
             nb::arg("intercept"), nb::arg("effects"), nb::arg("offset"), nb::arg("fixed_out"), nb::arg("linear_out"));
  module.def("request_parts", &request_parts, nb::arg("effects"), nb::arg("at").none(), nb::arg("places"),
             nb::arg("offset"), nb::arg("fixed"), nb::arg("widened").none(), nb::arg("noise"), nb::arg("out"));
  module.def("highest", &highest, nb::arg("names"), nb::arg("fixed"), nb::arg("kept").none(), nb::arg("at").none(),
             nb::arg("intercept"), nb::arg("effects"), nb::arg("offset"), nb::arg("noise"), nb::arg("places"),
             nb::arg("versions"), nb::arg("out"));
}

}  // namespace nearline
