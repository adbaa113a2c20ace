// Drives the kernels of entity.hpp without Python over random ragged problems, and what reads requests over random
// names and texts, for sanitizers to watch.
//
//   kernels_test CASES          random problems of every form and edge size, checked against each other
//   kernels_test out-of-bounds  reads past an array on purpose: a sanitizer must stop it
//   kernels_test undefined      overflows an integer on purpose: likewise
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "entity.hpp"
#include "json_features.hpp"
#include "name_table.hpp"
#include "random.hpp"

using namespace nearline;

namespace {

struct Set {
  const char* name;
  void (*update)(const UpdateJob&, int64_t, int64_t);
  void (*learn)(const LearnJob&, int64_t, int64_t);
  void (*score)(const ScoreJob&, int64_t, int64_t);
  void (*draw)(const DrawJob&, int64_t, int64_t);
  void (*factor)(const FactorJob&, int64_t, int64_t);
  void (*moments)(const MomentsJob&, int64_t, int64_t, int64_t);
  void (*complete)(const CompleteJob&, int64_t, int64_t);
  void (*extract)(const CompleteJob&, int64_t, int64_t);
};

#define NEARLINE_SET(isa) \
  Set {                                                                                                     \
    #isa, isa::run_update, isa::run_learn, isa::run_score, isa::run_draw, isa::run_factor, isa::run_moments,     \
    isa::run_complete, isa::run_extract                                                                      \
  }

std::vector<Set> instruction_sets() {
  std::vector<Set> sets{NEARLINE_SET(portable)};
#ifdef NEARLINE_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back(NEARLINE_SET(v3));
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw"))
    sets.push_back(NEARLINE_SET(v4));
#endif
  return sets;
}

[[noreturn]] void fail(const std::string& what, uint64_t seed) {
  std::fprintf(stderr, "case %llu: %s\n", static_cast<unsigned long long>(seed), what.c_str());
  std::exit(1);
}

// Block sizes around the padding, now and then large.
int64_t draw_size(Random& random, int64_t largest) {
  static const int64_t edges[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 33, 64, 65, 130};
  const int64_t size = random.chance(3) ? random.below(12) : edges[random.below(17)];
  return std::min(size, largest);
}

// With `wild`, any eight bytes that a double can be: NaN, infinities, denormals, both ends of the range.
double draw_value(Random& random, bool wild) {
  if (!wild || !random.chance(8)) return random.normal();
  static const double odd[] = {0.0, -0.0, 1e308, -1e308, 5e-324, 1e-310, 800.0, -800.0, 1e16,
                               std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                               std::numeric_limits<double>::quiet_NaN()};
  if (random.chance(2)) return odd[random.below(12)];
  const uint64_t bits = random.bits();
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// One problem; every array is exactly as long as it must be, on the heap, so that a step beyond it is seen.
struct Problem {
  bool wild = false, full_prior = false, full = false, shared = false, sparse = false;
  int outcome = 0, method = 0;
  int64_t entities = 0, columns = 0, count = 0;
  std::vector<double> dense, values, y, weight, offset, start_mean;
  std::vector<float> dense32;
  std::vector<int64_t> indptr, row, row_start, start, packed_start, shared_start, shared_packed_start;
  std::vector<int32_t> indices, column;
  std::vector<double> prior_mean, prior_precision;      // of the update: per entity or shared
  std::vector<double> population_mean, population;      // of the moments and the evidence: shared

  Rows rows() const {
    Rows r;
    r.columns = columns;
    r.row_start = row_start.data();
    r.row = row.empty() ? nullptr : row.data();
    if (sparse) {
      r.indptr = indptr.data();
      r.indices = indices.data();
      r.values = values.data();
    } else if (!dense32.empty()) {
      r.dense32 = dense32.data();
    } else {
      r.dense = dense.data();
    }
    return r;
  }
  Blocks blocks(std::vector<double>& mean, std::vector<double>& precision, bool is_full) const {
    return Blocks{entities, sparse ? column.data() : nullptr, start.data(), packed_start.data(),
                  mean.data(), precision.data(), is_full, false};
  }
  Blocks shared_block(std::vector<double>& mean, std::vector<double>& precision, bool is_full) const {
    return Blocks{1, nullptr, shared_start.data(), shared_packed_start.data(), mean.data(), precision.data(), is_full, true};
  }
};

// Appends the precision of one block: diagonally dominant, so positive definite, now and then not.
void draw_precision(Random& random, int64_t d, bool full, bool sound, std::vector<double>& to) {
  for (int64_t i = 0; i < d; ++i) {
    to.push_back(sound ? 0.5 + random.uniform() : draw_value(random, true));
    for (int64_t j = i + 1; full && j < d; ++j) to.push_back(0.8 * (random.uniform() - 0.5) / static_cast<double>(d));
  }
}

Problem draw_problem(Random& random) {
  Problem p;
  p.wild = random.chance(2);
  p.outcome = static_cast<int>(random.below(3));
  p.method = static_cast<int>(random.below(4));
  p.sparse = random.chance(2);
  p.full_prior = random.chance(2);
  p.full = p.full_prior || random.chance(2);
  p.shared = random.chance(2);
  p.entities = random.below(6);
  p.columns = draw_size(random, 130);
  p.row_start.push_back(0);
  for (int64_t e = 0; e < p.entities; ++e) p.row_start.push_back(p.row_start.back() + draw_size(random, 70));
  p.count = p.row_start.back();
  if (random.chance(2)) {   // rows pointed at, some of the matrix in no entity
    const int64_t grouped = p.count;
    p.count += random.below(5);
    for (int64_t i = 0; i < grouped; ++i) p.row.push_back(random.below(p.count));
    if (grouped == 0) p.row.clear();
  }
  // Predictors of a few units however many columns there are, so that no Poisson rate is astronomical.
  const double unit = 1.0 / std::sqrt(std::max(1.0, static_cast<double>(p.columns)));
  const int64_t whole = p.sparse && random.chance(2) ? 0 : 1;   // blocks over every column
  if (p.sparse) {
    p.indptr.push_back(0);
    for (int64_t i = 0; i < p.count; ++i) {
      const int64_t nonzeros = p.columns == 0 ? 0 : random.below(std::min<int64_t>(p.columns, 12) + 2);
      for (int64_t k = 0; k < nonzeros; ++k) {   // in any order, some twice
        p.indices.push_back(static_cast<int32_t>(random.below(p.columns)));
        p.values.push_back(random.chance(6) ? 0.0 : draw_value(random, p.wild));
      }
      p.indptr.push_back(static_cast<int64_t>(p.indices.size()));
    }
  } else if (random.chance(2) && p.count * p.columns > 0) {
    for (int64_t k = 0; k < p.count * p.columns; ++k)
      p.dense32.push_back(static_cast<float>(std::fmod(unit * draw_value(random, p.wild && random.chance(9)), 1e30)));
  } else {
    for (int64_t k = 0; k < p.count * p.columns; ++k)
      p.dense.push_back(unit * draw_value(random, p.wild && random.chance(9)));
  }
  for (int64_t i = 0; i < p.count; ++i) {
    const double eta = random.normal();
    p.y.push_back(p.outcome == kNormal ? eta : p.outcome == kBernoulli ? static_cast<double>(random.below(2))
                                                                       : static_cast<double>(random.below(7)));
    if (p.wild && random.chance(8)) p.y.back() = draw_value(random, true);
  }
  for (int64_t i = 0; i < p.count; ++i) {
    p.weight.push_back(p.wild && random.chance(8) ? draw_value(random, true) : 2.0 * random.uniform());
    p.offset.push_back(draw_value(random, p.wild));
  }
  p.start.push_back(0);
  p.packed_start.push_back(0);
  const bool partial = p.sparse && !whole && !(p.full_prior && p.shared);
  for (int64_t e = 0; e < p.entities; ++e) {
    std::vector<char> has(static_cast<size_t>(p.columns), partial ? 0 : 1);
    for (int64_t i = p.row_start[e]; partial && i < p.row_start[e + 1]; ++i) {
      const int64_t row = p.row.empty() ? i : p.row[i];
      for (int64_t k = p.indptr[row]; k < p.indptr[row + 1]; ++k) has[static_cast<size_t>(p.indices[k])] = 1;
    }
    if (partial && p.columns > 0 && random.chance(9)) has[static_cast<size_t>(random.below(p.columns))] = 0;
    int64_t d = 0;
    for (int64_t c = 0; c < p.columns; ++c) {
      if (!has[static_cast<size_t>(c)]) continue;
      if (p.sparse) p.column.push_back(static_cast<int32_t>(c));
      ++d;
    }
    p.start.push_back(p.start.back() + d);
    p.packed_start.push_back(p.packed_start.back() + d * (d + 1) / 2);
  }
  p.shared_start = {0, p.columns};
  p.shared_packed_start = {0, p.columns * (p.columns + 1) / 2};
  const auto sound = [&] { return !p.wild || !random.chance(20); };
  const int64_t means = p.shared ? p.columns : p.start.back();
  for (int64_t j = 0; j < means; ++j) p.prior_mean.push_back(p.wild && random.chance(50) ? draw_value(random, true) : random.normal());
  if (p.shared) draw_precision(random, p.columns, p.full_prior, sound(), p.prior_precision);
  for (int64_t e = 0; !p.shared && e < p.entities; ++e)
    draw_precision(random, p.start[e + 1] - p.start[e], p.full_prior, sound(), p.prior_precision);
  for (int64_t j = 0; j < p.columns; ++j) p.population_mean.push_back(random.normal());
  draw_precision(random, p.columns, false, true, p.population);
  if (random.chance(3))
    for (int64_t j = 0; j < p.start.back(); ++j) p.start_mean.push_back(draw_value(random, p.wild));
  return p;
}

constexpr double kUnset = -12345.5;

struct Fit {
  std::vector<double> mean, precision;
  std::vector<int8_t> status;
  std::vector<int32_t> steps;
  std::vector<uint8_t> learned;
};

Fit update(const Set& set, Problem& p) {
  Fit fit;
  const auto size = static_cast<size_t>(p.start.back());
  fit.mean.assign(size, kUnset);
  fit.precision.assign(p.full ? static_cast<size_t>(p.packed_start.back()) : size, kUnset);
  fit.status.assign(static_cast<size_t>(p.entities), 99);
  fit.steps.assign(static_cast<size_t>(p.entities), 99);
  fit.learned.assign(static_cast<size_t>(p.count), 1);
  UpdateJob job;
  job.rows = p.rows();
  job.y = p.y.data();
  job.weight = p.weight.data();
  job.offset = p.offset.data();
  job.prior = p.shared ? p.shared_block(p.prior_mean, p.prior_precision, p.full_prior)
                       : p.blocks(p.prior_mean, p.prior_precision, p.full_prior);
  job.posterior = p.blocks(fit.mean, fit.precision, p.full);
  job.start = p.start_mean.empty() ? nullptr : p.start_mean.data();
  job.outcome = p.outcome;
  job.method = p.method;
  job.status = fit.status.data();
  job.steps = fit.steps.data();
  job.row_learned = fit.learned.data();
  const int64_t half = p.entities / 2;
  set.update(job, 0, half);
  set.update(job, half, p.entities);
  return fit;
}

void check_fit(const Problem& p, const Fit& fit, uint64_t seed) {
  for (int64_t e = 0; e < p.entities; ++e) {
    const int status = fit.status[static_cast<size_t>(e)];
    if (status < kLearned || status > kFeatureOutsideBlock) fail("a status nobody knows", seed);
    for (int64_t j = p.start[e]; j < p.start[e + 1]; ++j) {
      const double mean = fit.mean[static_cast<size_t>(j)];
      if (mean == kUnset) fail("a mean was not written", seed);
      if (status == kLearned && !p.wild && !std::isfinite(mean)) fail("a mean is not finite", seed);
      if (status != kLearned && !p.shared &&
          std::memcmp(&mean, &p.prior_mean[static_cast<size_t>(j)], sizeof mean) != 0)
        fail("a belief that could not be updated was changed", seed);
    }
    if (!p.wild && status != kLearned && status != kNoRows && status != kFeatureOutsideBlock)
      fail("a sound problem was not solved: status " + std::to_string(status), seed);
  }
  for (const double value : fit.precision)
    if (value == kUnset) fail("a precision was not written", seed);
}

void check_same(const std::vector<double>& a, const std::vector<double>& b, double tolerance, const char* what, uint64_t seed) {
  double size = 1.0, away = 0.0;
  for (size_t k = 0; k < a.size(); ++k) {
    size = std::max(size, std::fabs(b[k]));
    away = std::max(away, std::fabs(a[k] - b[k]));
    if (std::isfinite(a[k]) != std::isfinite(b[k])) fail(std::string(what) + ": finite or not", seed);
  }
  if (!(away <= tolerance * size)) fail(std::string(what) + " differ by " + std::to_string(away), seed);
}

struct Sums {
  std::vector<double> score, variance, leverage, pull, covariance, square, mean, log_determinant;
};

Sums score_and_sum(const Set& set, Problem& p, Fit& fit) {
  const auto count = static_cast<size_t>(p.count), columns = static_cast<size_t>(p.columns);
  const size_t square = kChunks * (p.full ? columns * columns : columns);
  Sums s;
  s.score.assign(count, 0.0);
  s.variance.assign(count, 0.0);
  std::vector<int8_t> status(static_cast<size_t>(p.entities), 99);
  ScoreJob score;
  score.rows = p.rows();
  score.beliefs = p.blocks(fit.mean, fit.precision, p.full);
  score.mean = s.score.data();
  score.variance = s.variance.data();
  score.status = status.data();
  set.score(score, 0, p.entities);
  score.variance = nullptr;
  set.score(score, 0, p.entities);
  s.leverage.assign(count, 0.0);
  s.pull.assign(count, 0.0);
  s.covariance.assign(square, 0.0);
  s.square.assign(square, 0.0);
  s.mean.assign(kChunks * columns, 0.0);
  s.log_determinant.assign(static_cast<size_t>(p.entities), 0.0);
  MomentsJob job;
  job.rows = p.rows();
  job.y = p.y.data();
  job.weight = p.weight.data();
  job.offset = p.offset.data();
  job.beliefs = score.beliefs;
  job.outcome = p.outcome;
  job.center = p.population_mean.data();
  job.leverage = s.leverage.data();
  job.pull = s.pull.data();
  job.covariance_sum = s.covariance.data();
  job.square_sum = s.square.data();
  job.mean_sum = s.mean.data();
  job.log_determinant = s.log_determinant.data();
  job.status = status.data();
  for (int64_t chunk = 0; chunk < kChunks; ++chunk)
    set.moments(job, chunk, p.entities * chunk / kChunks, p.entities * (chunk + 1) / kChunks);
  return s;
}

// Draws of the scores: a few of them and many, factored for each call and beforehand.
std::vector<double> draw(const Set& set, Problem& p, Fit& fit, uint64_t seed) {
  const auto count = static_cast<size_t>(p.count);
  std::vector<uint64_t> key;
  for (int64_t e = 0; e < p.entities; ++e) key.push_back(~uint64_t{0} - 7 * static_cast<uint64_t>(e));
  std::vector<int8_t> status(static_cast<size_t>(p.entities), 99);
  std::vector<double> factor(p.full ? fit.precision.size() : 0, kUnset);
  const auto draws = [&](uint64_t first, int64_t how_many, const double* factored) {
    std::vector<double> scores(count * static_cast<size_t>(how_many), 0.0);
    DrawJob job;
    job.rows = p.rows();
    job.beliefs = p.blocks(fit.mean, fit.precision, p.full);
    job.factor = factored;
    job.key = key.data();
    job.request = seed;
    job.first = first;
    job.draws = how_many;
    job.count = p.count;
    job.scores = scores.data();
    job.status = status.data();
    set.draw(job, 0, p.entities);
    return scores;
  };
  const std::vector<double> many = draws(0, 11, nullptr);
  bool sound = !p.wild;
  for (const int8_t one : status) {
    if (one != kLearned && one != kNotPositiveDefinite && one != kFeatureOutsideBlock) fail("a status nobody knows", seed);
    sound &= one == kLearned;
  }
  if (p.full) {
    FactorJob job;
    job.beliefs = p.blocks(fit.mean, fit.precision, true);
    job.factor = factor.data();
    job.status = status.data();
    set.factor(job, 0, p.entities);
  }
  if (!sound) return {};
  const std::vector<double> few = draws(9, 2, p.full ? factor.data() : nullptr);
  check_same(few, {many.end() - static_cast<int64_t>(few.size()), many.end()}, 1e-9, "draws, few and many", seed);
  return many;
}

void extract_and_complete(const Set& set, Problem& p, Fit& fit, uint64_t seed) {
  std::vector<double> shift(fit.mean.size(), kUnset), precision(fit.precision.size(), kUnset);
  std::vector<double> mean(fit.mean.size(), kUnset), again(fit.precision.size(), kUnset);
  std::vector<double> keep(static_cast<size_t>(p.entities), 1.0);
  std::vector<int8_t> status(static_cast<size_t>(p.entities), 99);
  std::vector<int32_t> everything;   // evidence always lists its columns
  for (int64_t e = 0; e < p.entities; ++e)
    for (int64_t j = 0; j < p.start[e + 1] - p.start[e]; ++j)
      everything.push_back(p.sparse ? p.column[static_cast<size_t>(p.start[e] + j)] : static_cast<int32_t>(j));
  CompleteJob job;
  job.columns = p.columns;
  job.evidence = p.blocks(shift, precision, p.full);
  job.evidence.column = everything.data();
  job.prior = p.shared_block(p.population_mean, p.population, false);
  job.belief = p.blocks(fit.mean, fit.precision, p.full);
  job.status = status.data();
  set.extract(job, 0, p.entities);
  job.belief = p.blocks(mean, again, p.full);
  job.keep = keep.data();
  set.complete(job, 0, p.entities);
  if (p.wild) return;
  for (const int8_t one : status)
    if (one != kLearned) fail("evidence was not completed", seed);
  check_same(mean, fit.mean, 1e-8, "completed means", seed);
  check_same(again, fit.precision, 1e-12, "completed precisions", seed);
}

struct Evidence {
  std::vector<int64_t> start, packed_start;
  std::vector<int32_t> column;
  std::vector<double> shift, precision;
};

// What is known after mini-batches of the rows from row_start[b] on, as many of each entity as `batch_start` says.
Evidence learn(const Set& set, Problem& p, Evidence& before, const std::vector<int64_t>& row_start,
               const std::vector<int64_t>& batch_start, double keep, uint64_t seed) {
  Evidence after{p.start, p.packed_start, p.column, {}, {}};
  for (int64_t e = 0; !p.sparse && e < p.entities; ++e)
    for (int64_t j = 0; j < p.columns; ++j) after.column.push_back(static_cast<int32_t>(j));
  after.shift.assign(static_cast<size_t>(p.start.back()), kUnset);
  after.precision.assign(static_cast<size_t>(p.full ? p.packed_start.back() : p.start.back()), kUnset);
  const auto batches = static_cast<size_t>(batch_start.back());
  std::vector<int8_t> status(batches, 99);
  std::vector<int32_t> steps(batches, 99);
  std::vector<double> kept(batches, keep);
  std::vector<uint8_t> learned(static_cast<size_t>(p.count), 1);
  const auto blocks = [&](Evidence& of) {
    return Blocks{p.entities, of.column.data(), of.start.data(), of.packed_start.data(), of.shift.data(),
                  of.precision.data(), p.full, false};
  };
  LearnJob job;
  job.rows = p.rows();
  job.rows.row_start = row_start.data();
  job.batch_start = batch_start.data();
  job.y = p.y.data();
  job.weight = p.weight.data();
  job.offset = p.offset.data();
  job.keep = kept.data();
  job.prior = p.shared ? p.shared_block(p.prior_mean, p.prior_precision, p.full_prior)
                       : p.shared_block(p.population_mean, p.population, false);
  job.before = blocks(before);
  job.after = blocks(after);
  job.outcome = p.outcome;
  job.status = status.data();
  job.steps = steps.data();
  job.row_learned = learned.data();
  set.learn(job, 0, p.entities / 2);
  set.learn(job, p.entities / 2, p.entities);
  for (const int8_t one : status) {
    if (one < kLearned || one > kFeatureOutsideBlock) fail("a status nobody knows", seed);
    if (!p.wild && one != kLearned && one != kNoRows && one != kFeatureOutsideBlock)
      fail("a sound mini-batch was not learned: status " + std::to_string(one), seed);
  }
  for (const double value : after.shift)
    if (value == kUnset) fail("a shift was not written", seed);
  return after;
}

// The rows of each entity in two mini-batches. Where every column is there from the first, both in one go are to the bit
// what one and then the other is.
Evidence learn_in_turn(const Set& set, Problem& p, uint64_t seed) {
  std::vector<int64_t> row_start{0}, batch_start{0}, none(static_cast<size_t>(p.entities + 1), 0);
  for (int64_t e = 0; e < p.entities; ++e) {
    row_start.push_back((p.row_start[e] + p.row_start[e + 1]) / 2);
    row_start.push_back(p.row_start[e + 1]);
    batch_start.push_back(2 * (e + 1));
  }
  Evidence nothing{none, none, {}, {}, {}};
  Evidence at_once = learn(set, p, nothing, row_start, batch_start, 0.9, seed);
  std::vector<int64_t> one_each;
  for (int64_t e = 0; e <= p.entities; ++e) one_each.push_back(e);
  Evidence known = nothing;
  for (size_t half = 0; half < 2; ++half) {
    // The rows of the other half are left out: each entity's mini-batch begins where its own half does.
    Problem part = p;
    part.row.clear();
    std::vector<int64_t> starts{0};
    for (size_t e = 0; e < static_cast<size_t>(p.entities); ++e) {
      for (int64_t i = row_start[2 * e + half]; i < row_start[2 * e + half + 1]; ++i)
        part.row.push_back(p.row.empty() ? i : p.row[static_cast<size_t>(i)]);
      starts.push_back(static_cast<int64_t>(part.row.size()));
    }
    if (part.row.empty()) part.row.push_back(0);
    known = learn(set, part, known, starts, one_each, 0.9, seed);
  }
  const auto are_same = [](const std::vector<double>& a, const std::vector<double>& b) {
    return a.empty() || std::memcmp(a.data(), b.data(), 8 * a.size()) == 0;
  };
  const bool same = p.sparse || (are_same(known.shift, at_once.shift) && are_same(known.precision, at_once.precision));
  if (!same) fail("two mini-batches in one go are not one after the other", seed);
  if (!p.wild) {
    check_same(known.shift, at_once.shift, 1e-8, "shifts", seed);
    check_same(known.precision, at_once.precision, 1e-8, "evidence", seed);
  }
  return at_once;
}

void run_case(const std::vector<Set>& sets, uint64_t seed) {
  Random random{seed};
  Problem p = draw_problem(random);
  Fit first;
  Sums sums;
  std::vector<double> drawn;
  Evidence evidence;
  for (size_t k = 0; k < sets.size(); ++k) {
    Fit fit = update(sets[k], p);
    check_fit(p, fit, seed);
    Sums own = score_and_sum(sets[k], p, fit);
    std::vector<double> draws = draw(sets[k], p, fit, seed);
    extract_and_complete(sets[k], p, fit, seed);
    Evidence known = learn_in_turn(sets[k], p, seed);
    if (k > 0 && !p.wild) {
      check_same(fit.mean, first.mean, 1e-8, "means", seed);
      check_same(fit.precision, first.precision, 1e-8, "precisions", seed);
      check_same(own.score, sums.score, 1e-7, "scores", seed);
      check_same(own.variance, sums.variance, 1e-7, "variances", seed);
      check_same(draws, drawn, 1e-7, "draws", seed);
      check_same(own.pull, sums.pull, 1e-7, "pulls", seed);
      check_same(own.square, sums.square, 1e-7, "squares", seed);
      check_same(known.shift, evidence.shift, 1e-8, "shifts", seed);
      check_same(known.precision, evidence.precision, 1e-8, "evidence", seed);
      if (fit.status != first.status) fail("statuses differ between instruction sets", seed);
    }
    if (k > 0 && fit.learned != first.learned) fail("instruction sets set other rows aside", seed);
    if (k == 0) {
      first = std::move(fit);
      sums = std::move(own);
      drawn = std::move(draws);
      evidence = std::move(known);
    }
  }
}

// A table of names against a map, through growth and removals.
void run_names(uint64_t seed) {
  Random random{seed};
  NameTable table({random.bits(), random.bits()});
  std::map<std::string, int64_t> plain;
  for (int64_t step = random.below(400); step > 0; --step) {
    const std::string name(static_cast<size_t>(random.below(40)), static_cast<char>('a' + random.below(4)));
    const auto known = plain.find(name);
    const int64_t number = known == plain.end() ? NameTable::kNone : known->second;
    if (table.get(name) != number) fail("a name has another number", seed);
    if (random.chance(3)) {
      if (table.remove(name) != number) fail("another number was removed", seed);
      plain.erase(name);
    } else {
      table.put(name, step);
      plain[name] = step;
    }
    if (table.size() != static_cast<int64_t>(plain.size())) fail("another number of names", seed);
  }
}

// Features in JSON, whole and damaged, in a buffer that ends where they do.
void run_json(uint64_t seed) {
  Random random{seed};
  std::vector<double> values(static_cast<size_t>(random.below(6)));
  std::vector<std::string> keys;
  std::string text = "{\"b\":{";
  for (size_t i = 0; i < values.size(); ++i) {
    keys.push_back("\"k" + std::to_string(i) + "\"");
    char digits[40];
    values[i] = random.normal() * std::pow(10.0, static_cast<double>(random.below(40) - 20));
    std::snprintf(digits, sizeof digits, random.chance(2) ? "%.16e" : "%.4f", values[i]);
    values[i] = std::atof(digits);
    text += (i > 0 ? "," : "") + keys[i] + ": " + digits;
  }
  text += "}}";
  const std::vector<std::string_view> names(keys.begin(), keys.end());
  const auto read = [&](const std::string& given, std::vector<double>& out) {
    const std::vector<char> exact(given.begin(), given.end());
    return JsonFeatures({exact.data(), exact.size()}).read("\"b\"", names, out.data());
  };
  std::vector<double> out(values.size());
  if (!read(text, out)) fail("features were not read: " + text, seed);
  for (size_t i = 0; i < values.size(); ++i)
    if (out[i] != values[i]) fail("a number was read as another: " + text, seed);
  for (int64_t times = 0; times < 20; ++times) {
    std::string damaged = text.substr(0, static_cast<size_t>(random.below(static_cast<int64_t>(text.size()) + 1)));
    if (!damaged.empty() && random.chance(2)) damaged[static_cast<size_t>(random.below(static_cast<int64_t>(damaged.size())))] = "{}:,.e-9\""[random.below(9)];
    read(damaged, out);
  }
}

// A response too few: the kernel reads past the array.
void read_out_of_bounds() {
  Random random{1};
  Problem p;
  do p = draw_problem(random);
  while (p.entities == 0 || p.count == 0 || !p.row.empty());
  std::vector<double>(p.y.begin(), p.y.end() - 1).swap(p.y);
  update(instruction_sets()[0], p);
}

int64_t overflow(int64_t by) { return std::numeric_limits<int64_t>::max() + by; }

}  // namespace

int main(int arguments, char** argument) {
  const std::string what = arguments > 1 ? argument[1] : "100";
  if (what == "out-of-bounds") {
    read_out_of_bounds();
  } else if (what == "undefined") {
    std::printf("%lld\n", static_cast<long long>(overflow(arguments)));
  } else {
    const std::vector<Set> sets = instruction_sets();
    const auto cases = static_cast<uint64_t>(std::atoll(what.c_str()));
    for (uint64_t seed = 0; seed < cases; ++seed) {
      run_case(sets, seed);
      run_names(seed);
      run_json(seed);
    }
    for (const Set& set : sets) std::printf("%s ", set.name);
    std::printf("%llu cases\n", static_cast<unsigned long long>(cases));
  }
  return 0;
}
