// The jobs of problem.hpp, one entity after the other. Compiled once per instruction set.
#include "entity.hpp"

#include "blocks.hpp"

namespace nearline::NEARLINE_ISA {
namespace {

bool is_allowed(int outcome, double y) {
  if (!std::isfinite(y)) return false;
  return outcome == kNormal || (y >= 0.0 && (outcome == kPoisson || y <= 1.0));
}

bool has_finite_features(const Rows& rows, int64_t row) {
  if (rows.indptr) return all_finite(rows.values + rows.indptr[row], rows.indptr[row + 1] - rows.indptr[row]);
  if (rows.dense) return all_finite(rows.dense + row * rows.columns, rows.columns);
  return all_finite(rows.dense32 + row * rows.columns, rows.columns);
}

// Whether every number of the rows from..to can be learned, by one look where they lie together; false if they do not.
template <class Job>
bool can_learn_together(const Job& job, int64_t from, int64_t to) {
  const Rows& rows = job.rows;
  const int64_t n = to - from, d = rows.columns;
  if (rows.row || !all_finite(job.y + from, n)) return false;
  if (rows.indptr ? !all_finite(rows.values + rows.indptr[from], rows.indptr[to] - rows.indptr[from])
                  : rows.dense ? !all_finite(rows.dense + from * d, n * d) : !all_finite(rows.dense32 + from * d, n * d))
    return false;
  if (job.offset && !all_finite(job.offset + from, n)) return false;
  if (job.weight && !all_finite(job.weight + from, n)) return false;
  int wrong = 0;
  if (job.weight) for (int64_t i = from; i < to; ++i) wrong |= job.weight[i] < 0.0;
  if (job.outcome != kNormal) for (int64_t i = from; i < to; ++i) wrong |= job.y[i] < 0.0;
  if (job.outcome == kBernoulli) for (int64_t i = from; i < to; ++i) wrong |= job.y[i] > 1.0;
  return wrong == 0;
}

// ws.row: the rows of entity e that an update or moments can learn; tells `mark` of each row whether it is one.
template <class Job, class Mark>
void select_rows(const Job& job, int64_t e, Workspace& ws, const Mark& mark) {
  const int64_t from = job.rows.row_start[e], to = job.rows.row_start[e + 1];
  ws.row.resize(static_cast<size_t>(to - from));
  int64_t *chosen = ws.row.data(), *end = chosen;
  if (can_learn_together(job, from, to)) {
    for (int64_t i = from; i < to; ++i) {
      mark(i, true);
      chosen[i - from] = i;
    }
    return;
  }
  for (int64_t i = from; i < to; ++i) {
    const int64_t row = job.rows.row ? job.rows.row[i] : i;
    const double weight = job.weight ? job.weight[row] : 1.0, offset = job.offset ? job.offset[row] : 0.0;
    const bool learned = is_allowed(job.outcome, job.y[row]) && std::isfinite(weight) && weight >= 0.0 &&
                         std::isfinite(offset) && has_finite_features(job.rows, row);
    mark(row, learned);
    if (learned) *end++ = row;
  }
  ws.row.resize(static_cast<size_t>(end - chosen));
}

// Sparse rows into (place, value) pairs over the block; false if a feature lies outside the block.
bool gather_sparse(const Rows& rows, const Places& places, Workspace& ws) {
  int64_t total = 0;
  ws.sparse_start.resize(ws.row.size() + 1);
  int64_t* start = ws.sparse_start.data();
  *start = 0;
  for (const int64_t row : ws.row) *++start = total += rows.indptr[row + 1] - rows.indptr[row];
  ws.sparse_column.resize(static_cast<size_t>(total));
  double* value = ws.get(kSparse, total);
  int32_t *column = ws.sparse_column.data(), known = 0;
  for (const int64_t row : ws.row) {
    const int64_t from = rows.indptr[row], count = rows.indptr[row + 1] - from;
    for (int64_t k = 0; k < count; ++k) {
      known |= column[k] = places.find(rows.indices[from + k]);
      value[k] = rows.values[from + k];
    }
    column += count;
    value += count;
  }
  return known >= 0;   // not so if any place is -1
}

// Under a diagonal prior the columns no row touches keep their belief: solve over the touched ones alone.
// Fills ws.place (touched place -> place in the block) and renumbers ws.sparse_column.
int64_t keep_touched(int64_t block, Workspace& ws) {
  if (static_cast<int64_t>(ws.compact.size()) < block) ws.compact.resize(static_cast<size_t>(block));
  ws.touched.assign(static_cast<size_t>((block + 63) / 64), 0);
  uint64_t* touched = ws.touched.data();
  for (const int32_t j : ws.sparse_column) touched[j / 64] |= uint64_t{1} << (j % 64);
  ws.place.resize(static_cast<size_t>(block));
  int32_t *compact = ws.compact.data(), *place = ws.place.data(), count = 0;
  for (size_t word = 0; word < ws.touched.size(); ++word) {
    for (uint64_t left = touched[word]; left != 0; left &= left - 1) {
      const int32_t j = static_cast<int32_t>(64 * word) + __builtin_ctzll(left);
      compact[j] = count;
      place[count++] = j;
    }
  }
  ws.place.resize(static_cast<size_t>(count));
  for (int32_t& j : ws.sparse_column) j = compact[j];
  return count;
}

// Where in the prior's arrays the block of entity e begins; a shared diagonal prior is looked up by column.
struct PriorView {
  PriorView(const Blocks& prior, const Blocks& block, int64_t e)
      : mean(prior.mean + (prior.shared ? 0 : prior.start[e])),
        precision(prior.precision + (prior.shared ? 0 : prior.full ? prior.packed_start[e] : prior.start[e])),
        column(prior.shared && block.column ? block.column + block.start[e] : nullptr) {}
  int64_t at(int64_t j) const { return column ? column[j] : j; }
  void copy(const double* from, int64_t d, double* to) const {
    if (!column) std::copy(from, from + d, to);
    else for (int64_t j = 0; j < d; ++j) to[j] = from[column[j]];
  }
  const double* mean;
  const double* precision;
  const int32_t* column;
};

template <class Job>
void gather_scalars(const Job& job, Entity& e, Workspace& ws) {
  e.n = static_cast<int64_t>(ws.row.size());
  e.np = padded(e.n);
  e.y = ws.get(kY, e.np);
  e.w = ws.get(kWeight, e.np);
  e.o = ws.get(kOffset, e.np);
  e.curvature = ws.get(kCurvature, e.np);
  const auto gather = [&](const double* from, double otherwise, double* to) {
    if (!from) std::fill(to, to + e.n, otherwise);
    else if (!job.rows.row && e.n > 0 && ws.row.back() - ws.row.front() == e.n - 1)   // one after the other
      std::copy(from + ws.row.front(), from + ws.row.front() + e.n, to);
    else for (int64_t i = 0; i < e.n; ++i) to[i] = from[ws.row[static_cast<size_t>(i)]];
  };
  gather(job.y, 0.0, e.y);
  gather(job.weight, 1.0, e.w);
  gather(job.offset, 0.0, e.o);
  for (int64_t i = e.n; i < e.np; ++i) e.y[i] = e.w[i] = e.o[i] = 0.0;
}

void gather_dense_rows(const Rows& rows, Entity& e, Workspace& ws) {
  e.x = ws.get(kX, e.np * e.mp);
  std::fill(e.x + e.n * e.mp, e.x + e.np * e.mp, 0.0);
  for (int64_t i = 0; i < e.n; ++i) {
    double* to = e.x + i * e.mp;
    const int64_t row = ws.row[static_cast<size_t>(i)];
    if (rows.indptr) {
      std::fill(to, to + e.mp, 0.0);
      for (int64_t k = ws.sparse_start[static_cast<size_t>(i)]; k < ws.sparse_start[static_cast<size_t>(i) + 1]; ++k)
        to[ws.sparse_column[static_cast<size_t>(k)]] += e.sparse_value[k];
    } else {
      if (rows.dense) std::copy(rows.dense + row * rows.columns, rows.dense + row * rows.columns + e.m, to);
      else std::copy(rows.dense32 + row * rows.columns, rows.dense32 + row * rows.columns + e.m, to);
      std::fill(to + e.m, to + e.mp, 0.0);
    }
  }
}

// The same of sparse rows straight to e.x; false if a feature lies outside the block.
bool spread_sparse_rows(const Rows& rows, const Places& places, Entity& e, Workspace& ws) {
  e.x = ws.get(kX, e.np * e.mp);
  std::fill(e.x, e.x + e.np * e.mp, 0.0);
  double* to = e.x;
  for (const int64_t row : ws.row) {
    for (int64_t k = rows.indptr[row]; k < rows.indptr[row + 1]; ++k) {
      const int32_t place = places.find(rows.indices[k]);
      if (place < 0) return false;
      to[place] += rows.values[k];
    }
    to += e.mp;
  }
  return true;
}

void gather_prior(const UpdateJob& job, int64_t index, Entity& e, Workspace& ws) {
  const PriorView prior(job.prior, job.posterior, index);
  const bool compact = !ws.place.empty();
  e.prior_mean = ws.get(kPriorMean, e.mp);
  e.mean = ws.get(kMean, e.mp);
  std::fill(e.prior_mean, e.prior_mean + e.mp, 0.0);
  const bool in_place = e.full && !job.prior.packed && e.m == e.mp;   // a square without padding
  double* precision = in_place ? nullptr : ws.get(kPrior, e.full ? e.mp * e.mp : e.mp);
  e.prior = in_place ? prior.precision : precision;
  if (e.full && !in_place) unpack(prior.precision, e.m, e.mp, precision, job.prior.packed);
  if (!e.full) std::fill(precision + e.m, precision + e.mp, 1.0);
  const auto copy = [&](const double* from, double* to) {
    const int32_t* place = ws.place.data();
    if (!compact) prior.copy(from, e.m, to);
    else if (!prior.column) for (int64_t j = 0; j < e.m; ++j) to[j] = from[place[j]];
    else for (int64_t j = 0; j < e.m; ++j) to[j] = from[prior.column[place[j]]];
  };
  copy(prior.mean, e.prior_mean);
  if (!e.full) copy(prior.precision, precision);
  if (!job.start) return;
  const double* from = job.start + job.posterior.start[index];
  double* start = ws.get(kStart, e.mp);
  std::fill(start, start + e.mp, 0.0);
  for (int64_t j = 0; j < e.m; ++j) start[j] = from[compact ? ws.place[static_cast<size_t>(j)] : j];
  if (all_finite(start, e.m)) e.start = start;
}

// The belief as it was: what an entity that could not be fitted, or had no rows, keeps.
void copy_prior(const UpdateJob& job, int64_t index) {
  const PriorView prior(job.prior, job.posterior, index);
  const int64_t d = block_size(job.posterior, index);
  double* mean = job.posterior.mean + job.posterior.start[index];
  prior.copy(prior.mean, d, mean);
  if (!job.posterior.full) return prior.copy(prior.precision, d, job.posterior.precision + job.posterior.start[index]);
  double* packed = job.posterior.precision + job.posterior.packed_start[index];
  if (job.prior.full) {
    std::copy(prior.precision, prior.precision + (job.prior.packed ? packed_size(d) : d * d), packed);
    return;
  }
  std::fill(packed, packed + packed_size(d), 0.0);
  for (int64_t j = 0; j < d; packed += d - j, ++j) *packed = prior.precision[prior.at(j)];
}

// out[j] += sum_i c_i x_ij^2.
void add_all_squares(const Entity& e, Workspace& ws, double* out) {
  if (!e.x) return add_squares(e, ws, e.curvature, out);
  for (int64_t i = 0; i < e.n; ++i)
    for (int64_t j = 0; j < e.m; ++j) out[j] += e.curvature[i] * e.x[i * e.mp + j] * e.x[i * e.mp + j];
}

// Adds X' C X at the mode, touched places first mapped back to the block. False if the sum is beyond the largest number;
// it is, if at all, on the diagonal.
bool write_posterior(const UpdateJob& job, int64_t index, Entity& e, Workspace& ws) {
  const int64_t d = block_size(job.posterior, index);
  const bool compact = !ws.place.empty();
  const auto place = [&](int64_t j) { return compact ? static_cast<int64_t>(ws.place[static_cast<size_t>(j)]) : j; };
  double* mean = job.posterior.mean + job.posterior.start[index];
  if (compact) copy_prior(job, index);
  for (int64_t j = 0; j < e.m; ++j) mean[place(j)] = e.mean[j];
  if (!job.posterior.full) {
    double* precision = ws.get(kStep, e.mp);
    std::copy(e.prior, e.prior + e.mp, precision);
    add_all_squares(e, ws, precision);
    double* to = job.posterior.precision + job.posterior.start[index];
    for (int64_t j = 0; j < e.m; ++j) to[place(j)] = precision[j];
    return all_finite(precision, e.m);
  }
  double* packed = job.posterior.precision + job.posterior.packed_start[index];
  const bool in_place = !job.posterior.packed && e.m == e.mp;
  double* h = in_place ? packed : ws.get(kHessian, e.mp * e.mp);
  assemble_hessian(e, e.curvature, ws.get(kPanel, kBlock * std::max(e.np, e.mp)), h);
  int wrong = 0;
  for (int64_t j = 0; j < e.m; ++j) wrong |= !std::isfinite(h[j * e.mp + j]);
  if (!compact) {
    if (!in_place) pack(h, e.m, e.mp, packed, job.posterior.packed);
    if (!job.posterior.packed) copy_upper_to_lower(packed, e.m);
    return wrong == 0;
  }
  for (int64_t i = 0; i < e.m; ++i) {
    const int64_t pi = place(i), row = pi * d - pi * (pi - 1) / 2 - pi;   // packed index of (pi, 0), were it there
    for (int64_t j = i; j < e.m; ++j) packed[row + place(j)] = h[i * e.mp + j];
  }
  return wrong == 0;
}

// A precision has a positive diagonal: cheap to see, and what factors miss where the rows make up for it.
bool has_positive_diagonal(const Entity& e) {
  const int64_t stride = e.full ? e.mp + 1 : 1;
  int wrong = 0;
  for (int64_t j = 0; j < e.m; ++j) {
    const double precision = e.prior[j * stride];
    wrong |= !(precision > 0.0) || !(precision <= std::numeric_limits<double>::max());
  }
  return wrong == 0;
}

// Finds the mode by the method, or where that does not converge by the primal one. `dense`: the caller wants e.x.
Status solve(const Rows& rows, Entity& e, Workspace& ws, Method method, bool dense, double tolerance, int max_steps) {
  const bool is_sparse = !e.full && e.nonzeros > 0, sparse = method == kConjugateGradients && is_sparse;
  if (!e.x && (dense || !(sparse || (method == kDual && is_sparse)))) gather_dense_rows(rows, e, ws);
  if (sparse) return solve_primal<SparseRows>(e, ws, tolerance, max_steps);
  if (method == kDual) {
    const Status status = solve_dual(e, ws, tolerance, max_steps);
    if (status != kNotConverged) return status;
  }
  if (!e.x) gather_dense_rows(rows, e, ws);
  return solve_primal<DenseRows>(e, ws, tolerance, max_steps);
}

Status update_entity(const UpdateJob& job, int64_t index, Workspace& ws, int32_t& steps) {
  steps = 0;
  select_rows(job, index, ws, [&](int64_t row, bool learned) { job.row_learned[row] = learned; });
  if (ws.row.empty()) return kNoRows;
  Entity e;
  e.outcome = job.outcome;
  e.full = job.prior.full;
  e.m = block_size(job.posterior, index);
  ws.place.clear();
  if (job.rows.indptr && !e.full) {
    if (!gather_sparse(job.rows, Places(job.rows, job.posterior, index, ws), ws)) return kFeatureOutsideBlock;
    e.m = keep_touched(e.m, ws);
    e.nonzeros = static_cast<int64_t>(ws.sparse_column.size());
    e.sparse_start = ws.sparse_start.data();
    e.sparse_column = ws.sparse_column.data();
    e.sparse_value = ws.get(kSparse, e.nonzeros);
  }
  e.mp = padded(e.m);
  gather_scalars(job, e, ws);
  if (job.rows.indptr) {
    if (e.full && !spread_sparse_rows(job.rows, Places(job.rows, job.posterior, index, ws), e, ws))
      return kFeatureOutsideBlock;
    if (e.m == 0) return kLearned;   // rows without features: nothing to move
  }
  gather_prior(job, index, e, ws);
  if (!has_positive_diagonal(e)) return kNotPositiveDefinite;
  const Method method = job.method == kChoose ? choose_method(e) : static_cast<Method>(job.method);
  const Status status = solve(job.rows, e, ws, method, job.posterior.full, job.tolerance, job.max_steps);
  steps = e.steps;
  if (status != kLearned) return status;
  if (!all_finite(e.mean, e.m) || !all_finite(e.curvature, e.n)) return kNotFinite;
  return write_posterior(job, index, e, ws) ? kLearned : kNotFinite;
}

// Kept between calls: a single update would else spend its time here. Behind a call, or the compiler asks for the
// thread's address again at every use.
__attribute__((noinline)) Workspace& own_workspace() {
  static thread_local Workspace ws;
  return ws;
}

}  // namespace

void run_update(const UpdateJob& job, int64_t from, int64_t to) {
  Workspace& ws = own_workspace();
  for (int64_t e = from; e < to; ++e) {
    const Status status = update_entity(job, e, ws, job.steps[e]);
    if (status != kLearned || job.steps[e] == 0) copy_prior(job, e);
    job.status[e] = status;
  }
}

namespace {

void add_moments(const MomentsJob& job, int64_t e, int64_t chunk, const Belief& belief, const double* vt,
                 const double* inverse, Workspace& ws) {
  const int64_t columns = job.rows.columns, d = belief.d;
  const int32_t* column = job.beliefs.column ? job.beliefs.column + (job.beliefs.shared ? 0 : job.beliefs.start[e]) : nullptr;
  const auto at = [&](int64_t j) { return column ? static_cast<int64_t>(column[j]) : j; };
  double* mean_sum = job.mean_sum + chunk * columns;
  for (int64_t j = 0; j < d; ++j) mean_sum[at(j)] += belief.mean[j] - 0.5 * vt[j];
  double* c = ws.get(kPriorMean, belief.dp);
  for (int64_t j = 0; j < d; ++j) c[j] = belief.mean[j] - job.center[at(j)];
  if (!job.beliefs.full) {
    for (int64_t j = 0; j < d; ++j) {
      job.covariance_sum[chunk * columns + at(j)] += 1.0 / belief.diagonal[j];
      job.square_sum[chunk * columns + at(j)] += c[j] * (c[j] - vt[j]);
    }
    return;
  }
  for (int64_t i = 0; i < d; ++i) {
    double* covariance_sum = job.covariance_sum + (chunk * columns + at(i)) * columns;
    double* square_sum = job.square_sum + (chunk * columns + at(i)) * columns;
    const double* v = inverse + i * belief.dp;
    const double of_c = c[i] - 0.5 * vt[i], of_vt = -0.5 * c[i];
    const auto add = [&](int64_t j, int64_t to) {
      covariance_sum[to] += v[j];
      square_sum[to] += of_c * c[j] + of_vt * vt[j];
    };
    if (column) for (int64_t j = i; j < d; ++j) add(j, column[j]);
    else for (int64_t j = i; j < d; ++j) add(j, j);
  }
}

// The rows of ws.row as (place, value) pairs, as gather_sparse leaves them; dense rows have every place.
bool gather_pairs(const Rows& rows, const Places& places, int64_t d, Workspace& ws) {
  if (rows.indptr) return gather_sparse(rows, places, ws);
  const int64_t n = static_cast<int64_t>(ws.row.size());
  ws.sparse_start.resize(static_cast<size_t>(n + 1));
  ws.sparse_column.resize(static_cast<size_t>(n * d));
  double* value = ws.get(kSparse, n * d);
  for (int64_t i = 0; i <= n; ++i) ws.sparse_start[static_cast<size_t>(i)] = i * d;
  for (int64_t k = 0; k < n * d; ++k) {
    ws.sparse_column[static_cast<size_t>(k)] = static_cast<int32_t>(k % d);
    value[k] = feature(rows, ws.row[static_cast<size_t>(k / d)], k % d);
  }
  return true;
}

// x' V x for `count` pairs; V symmetric, `inverse` [dp][dp], or null where V is diagonal.
double pair_quadratic(const Belief& belief, const double* inverse, int64_t count, const int32_t* place,
                      const double* value) {
  double total = 0.0;
  for (int64_t a = 0; a < count; ++a) {
    double beside = 0.0, own = 0.0;   // a row may name a column twice
    if (inverse) {
      const double* v = inverse + place[a] * belief.dp;
      for (int64_t b = a + 1; b < count; ++b) beside += value[b] * v[place[b]];
      own = value[a] * v[place[a]];
    } else {
      for (int64_t b = a + 1; b < count; ++b) beside += place[b] == place[a] ? value[b] : 0.0;
      beside /= belief.diagonal[place[a]];
      own = value[a] / belief.diagonal[place[a]];
    }
    total += value[a] * (own + 2.0 * beside);
  }
  return total;
}

Status moments_entity(const MomentsJob& job, int64_t e, int64_t chunk, Workspace& ws) {
  Belief belief;
  if (!open_belief(job.beliefs, e, ws, true, belief)) return kNotPositiveDefinite;
  select_rows(job, e, ws, [](int64_t, bool) {});
  if (!gather_pairs(job.rows, Places(job.rows, job.beliefs, e, ws), belief.d, ws)) return kFeatureOutsideBlock;
  const int64_t n = static_cast<int64_t>(ws.row.size()), np = padded(n);
  const double* value = ws.get(kSparse, static_cast<int64_t>(ws.sparse_column.size()));
  const int32_t* place = ws.sparse_column.data();
  const int64_t* start = ws.sparse_start.data();
  double* inverse = nullptr;
  if (belief.u) {
    inverse = ws.get(kGram, belief.dp * belief.dp);
    invert_factored(belief.u, belief.dp, ws.get(kXt, belief.dp * belief.dp), inverse, ws.get(kPanel, kBlock * belief.dp));
  }
  double *eta = ws.get(kEta, np), *third = ws.get(kResidual, np);
  std::fill(eta + n, eta + np, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = ws.row[static_cast<size_t>(i)], count = start[i + 1] - start[i];
    eta[i] = job.offset ? job.offset[row] : 0.0;
    for (int64_t k = start[i]; k < start[i + 1]; ++k) eta[i] += value[k] * belief.mean[place[k]];
    job.leverage[row] = pair_quadratic(belief, inverse, count, place + start[i], value + start[i]);
  }
  third_derivatives(job.outcome, eta, np, third);
  double *t = ws.get(kGradient, belief.dp), *vt = ws.get(kStep, belief.dp);
  double *others = ws.get(kT1, belief.dp), *vo = ws.get(kT2, belief.dp);   // the same of other_variance
  std::fill(t, t + belief.dp, 0.0);
  std::fill(others, others + belief.dp, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = ws.row[static_cast<size_t>(i)];
    const double slope = (job.weight ? job.weight[row] : 1.0) * third[i], own = slope * job.leverage[row];
    const double other = job.other_variance ? slope * job.other_variance[row] : 0.0;
    for (int64_t k = start[i]; k < start[i + 1]; ++k) {
      t[place[k]] += own * value[k];
      others[place[k]] += other * value[k];
    }
  }
  const auto solve = [&](const double* right, double* solution) {
    if (inverse) multiply_symmetric(inverse, belief.dp, right, solution);
    else for (int64_t j = 0; j < belief.d; ++j) solution[j] = right[j] / belief.diagonal[j];
  };
  solve(t, vt);
  for (int64_t i = 0; i < n; ++i) {
    double pull = 0.0;
    for (int64_t k = start[i]; k < start[i + 1]; ++k) pull += value[k] * vt[place[k]];
    job.pull[ws.row[static_cast<size_t>(i)]] = pull;
  }
  double log_determinant = 0.0;
  for (int64_t j = 0; j < belief.d; ++j)
    log_determinant += belief.u ? 2.0 * std::log(belief.u[j * belief.dp + j]) : std::log(belief.diagonal[j]);
  job.log_determinant[e] = log_determinant;
  if (job.other_variance) {
    solve(others, vo);
    for (int64_t j = 0; j < belief.d; ++j) vt[j] += vo[j];
  }
  add_moments(job, e, chunk, belief, vt, inverse, ws);
  return kLearned;
}

// Column j of a block that begins at `from` in blocks.column.
int64_t column_at(const Blocks& blocks, int64_t from, int64_t j) {
  return blocks.column ? blocks.column[from + j] : j;
}

// ws.place: where the columns of the evidence lie in the belief's block. False if one is not there.
bool place_evidence(const Blocks& evidence, const Blocks& belief, int64_t e, Workspace& ws) {
  const int64_t d = block_size(belief, e), from = evidence.start[e], have = evidence.start[e + 1] - from;
  ws.place.resize(static_cast<size_t>(have));
  for (int64_t i = 0, j = 0; i < have; ++i, ++j) {   // both ascending
    while (j < d && column_at(belief, belief.start[e], j) != column_at(evidence, from, i)) ++j;
    if (j == d) return false;
    ws.place[static_cast<size_t>(i)] = static_cast<int32_t>(j);
  }
  return true;
}

Status complete_entity(const CompleteJob& job, int64_t e, Workspace& ws) {
  const int64_t d = block_size(job.belief, e), dp = padded(d);
  const auto at = [&](int64_t j) { return column_at(job.belief, job.belief.start[e], j); };
  const int64_t from = job.evidence.start[e], have = job.evidence.start[e + 1] - from;
  const double keep = job.keep ? job.keep[e] : 1.0;
  if (!place_evidence(job.evidence, job.belief, e, ws)) return kFeatureOutsideBlock;
  const auto place = [&](int64_t i) { return static_cast<int64_t>(ws.place[static_cast<size_t>(i)]); };
  double *mean = job.belief.mean + job.belief.start[e], *shift = ws.get(kStep, dp), *own = ws.get(kPriorMean, dp);
  std::fill(shift, shift + dp, 0.0);
  std::fill(own, own + dp, 0.0);
  for (int64_t j = 0; j < d; ++j) own[j] = job.prior.mean[at(j)];
  if (!job.belief.full) {
    double* precision = job.belief.precision + job.belief.start[e];
    for (int64_t j = 0; j < d; ++j) {
      precision[j] = job.prior.precision[at(j)];
      shift[j] = precision[j] * own[j];
    }
    for (int64_t i = 0; i < have; ++i) {
      precision[place(i)] += keep * job.evidence.precision[from + i];
      shift[place(i)] += keep * job.evidence.mean[from + i];
    }
    for (int64_t j = 0; j < d; ++j) {
      if (!(precision[j] > 0.0)) return kNotPositiveDefinite;
      mean[j] = shift[j] / precision[j];
    }
    return all_finite(mean, d) ? kLearned : kNotFinite;
  }
  double *p = ws.get(kPrior, dp * dp), *u = ws.get(kHessian, dp * dp);
  if (job.prior.full) {
    unpack(job.prior.precision, d, dp, p);
  } else {
    std::fill(p, p + dp * dp, 0.0);
    for (int64_t j = 0; j < dp; ++j) p[j * dp + j] = j < d ? job.prior.precision[at(j)] : 1.0;
  }
  multiply_symmetric(p, dp, own, shift);
  const double* packed = job.evidence.precision + job.evidence.packed_start[e];
  for (int64_t i = 0; i < have; ++i) {
    shift[place(i)] += keep * job.evidence.mean[from + i];
    for (int64_t k = i; k < have; ++k, ++packed) {
      p[place(i) * dp + place(k)] += keep * *packed;
      if (k != i) p[place(k) * dp + place(i)] += keep * *packed;
    }
  }
  pack(p, d, dp, job.belief.precision + job.belief.packed_start[e]);
  std::copy(p, p + dp * dp, u);
  if (!cholesky(u, dp, ws.get(kPanel, kBlock * dp))) return kNotPositiveDefinite;
  solve_transposed(u, dp, shift);
  solve_upper(u, dp, shift);
  std::copy(shift, shift + d, mean);
  return all_finite(mean, d) ? kLearned : kNotFinite;
}

// The reverse: evidence = belief - prior, in natural form, over the columns of the evidence.
Status extract_entity(const CompleteJob& job, int64_t e, Workspace& ws) {
  const int64_t d = block_size(job.belief, e), dp = padded(d), start = job.belief.start[e];
  const int64_t from = job.evidence.start[e], have = job.evidence.start[e + 1] - from;
  if (!place_evidence(job.evidence, job.belief, e, ws)) return kFeatureOutsideBlock;
  const auto at = [&](int64_t j) { return column_at(job.belief, start, j); };
  const auto place = [&](int64_t i) { return static_cast<int64_t>(ws.place[static_cast<size_t>(i)]); };
  const double* mean = job.belief.mean + start;
  if (!job.belief.full) {
    const double* precision = job.belief.precision + start;
    for (int64_t i = 0; i < have; ++i) {
      const int64_t j = place(i), c = at(j);
      job.evidence.precision[from + i] = precision[j] - job.prior.precision[c];
      job.evidence.mean[from + i] = precision[j] * mean[j] - job.prior.precision[c] * job.prior.mean[c];
    }
    return kLearned;
  }
  // shift - prior shift = (P - P0) m + P0 (m - m0)
  double *extra = ws.get(kPrior, dp * dp), *p0 = ws.get(kHessian, dp * dp), *shift = ws.get(kStep, dp);
  double *padded_mean = ws.get(kMean, dp), *moved = ws.get(kPriorMean, dp), *out = ws.get(kGradient, dp);
  unpack(job.belief.precision + job.belief.packed_start[e], d, dp, extra);
  if (job.prior.full) {
    unpack(job.prior.precision, d, dp, p0);
  } else {
    std::fill(p0, p0 + dp * dp, 0.0);
    for (int64_t j = 0; j < dp; ++j) p0[j * dp + j] = j < d ? job.prior.precision[at(j)] : 1.0;
  }
  for (int64_t k = 0; k < dp * dp; ++k) extra[k] -= p0[k];
  std::fill(padded_mean, padded_mean + dp, 0.0);
  std::fill(moved, moved + dp, 0.0);
  for (int64_t j = 0; j < d; ++j) {
    padded_mean[j] = mean[j];
    moved[j] = mean[j] - job.prior.mean[at(j)];
  }
  multiply_symmetric(extra, dp, padded_mean, shift);
  multiply_symmetric(p0, dp, moved, out);
  double* packed = job.evidence.precision + job.evidence.packed_start[e];
  for (int64_t i = 0; i < have; ++i) {
    job.evidence.mean[from + i] = shift[place(i)] + out[place(i)];
    for (int64_t k = i; k < have; ++k) *packed++ = extra[place(i) * dp + place(k)];
  }
  return kLearned;
}

// Learning one mini-batch after the other: with b the mode of belief and rows, c = w loss'' and r = w (y - mean) there,
//
//   precision' = keep precision + X' C X,    shift' = keep shift + X' (r + C X b),
//
// for at the mode P (b - m) = X' r, so that (P + X' C X) b = P m + X' (r + C X b). Nothing is subtracted from a belief,
// and where the last step left b a little off the mode, (precision', shift') is one Newton step nearer. Of a diagonal
// precision X' C X is its diagonal D, also in the shift, X' r + D b, so that the mean is still b.

// Evidence without what is new: the columns of `after`, zero where `before` has none. False if one has no place there.
bool begin_evidence(const LearnJob& job, int64_t e, double* shift, double* precision, Workspace& ws) {
  const int64_t size = block_size(job.after, e), from = job.before.start[e], have = block_size(job.before, e);
  std::fill(shift, shift + size, 0.0);
  std::fill(precision, precision + (job.after.full ? packed_size(size) : size), 0.0);
  ws.compact.assign(static_cast<size_t>(size), -1);
  if (!place_evidence(job.before, job.after, e, ws)) return false;
  const double* known = job.before.precision + (job.after.full ? job.before.packed_start[e] : from);
  for (int64_t i = 0; i < have; ++i) {
    const int64_t place = ws.place[static_cast<size_t>(i)];
    ws.compact[static_cast<size_t>(place)] = 0;
    shift[place] = job.before.mean[from + i];
    if (!job.after.full) {
      precision[place] = known[i];
      continue;
    }
    double* row = precision + place * size - place * (place - 1) / 2 - place;   // of (place, 0), were it there
    for (int64_t k = i; k < have; ++k) row[ws.place[static_cast<size_t>(k)]] = *known++;
  }
  return true;
}

// ws.compact: place in the evidence -> place in the belief, -1 for columns that no row has touched so far. A belief is
// over those touched, or all columns under a full prior. Returns how many these are.
int64_t lay_out_belief(const LearnJob& job, int64_t e, int64_t batch, const Places& places, Workspace& ws) {
  const int64_t size = block_size(job.after, e), from = job.rows.row_start[batch], to = job.rows.row_start[batch + 1];
  int32_t* compact = ws.compact.data();
  if (job.prior.full) {
    for (int64_t j = 0; j < size; ++j) compact[j] = static_cast<int32_t>(column_at(job.after, job.after.start[e], j));
    return job.rows.columns;
  }
  if (!job.rows.indptr) std::fill(compact, compact + size, 0);
  for (int64_t i = from; job.rows.indptr && i < to; ++i) {
    const int64_t row = job.rows.row ? job.rows.row[i] : i;
    for (int64_t k = job.rows.indptr[row]; k < job.rows.indptr[row + 1]; ++k) {
      const int32_t place = places.find(job.rows.indices[k]);
      if (place >= 0) compact[place] = 0;
    }
  }
  int32_t d = 0;
  for (int64_t j = 0; j < size; ++j)
    if (compact[j] >= 0) compact[j] = d++;
  return d;
}

// A full belief as the prior of e: prior + evidence, its factor in kHessian, and its mean.
Status open_full(const LearnJob& job, int64_t index, const double* shift, const double* precision, Entity& e,
                 Workspace& ws) {
  const int64_t size = block_size(job.after, index), d = e.m, dp = e.mp;
  const int32_t* compact = ws.compact.data();
  double *p = ws.get(kPrior, dp * dp), *u = ws.get(kHessian, dp * dp), *mean = ws.get(kPriorMean, dp);
  if (job.prior.full) {
    double* own = ws.get(kStep, dp);
    unpack(job.prior.precision, d, dp, p);
    std::fill(std::copy(job.prior.mean, job.prior.mean + d, own), own + dp, 0.0);
    multiply_symmetric(p, dp, own, mean);
  } else {
    std::fill(p, p + dp * dp, 0.0);
    std::fill(mean, mean + dp, 0.0);
    for (int64_t i = d; i < dp; ++i) p[i * dp + i] = 1.0;
    for (int64_t j = 0; j < size; ++j) {
      if (compact[j] < 0) continue;
      const int64_t i = compact[j], column = column_at(job.after, job.after.start[index], j);
      p[i * dp + i] = job.prior.precision[column];
      mean[i] = job.prior.precision[column] * job.prior.mean[column];
    }
  }
  for (int64_t j = 0; j < size; precision += size - j, ++j) {   // from element (j, j) to the next
    if (compact[j] < 0) continue;
    double* row = p + compact[j] * dp;
    mean[compact[j]] += shift[j];
    if (d == size) for (int64_t k = j; k < size; ++k) row[k] += precision[k - j];
    else for (int64_t k = j; k < size; ++k) if (compact[k] >= 0) row[compact[k]] += precision[k - j];
  }
  for (int64_t i = 0; i < d; ++i)
    for (int64_t j = i + 1; j < std::min(d, (i / kBlock + 1) * kBlock); ++j) p[j * dp + i] = p[i * dp + j];
  std::copy(p, p + dp * dp, u);
  if (!cholesky(u, dp, ws.get(kPanel, kBlock * std::max(e.np, dp)))) return kNotPositiveDefinite;
  solve_transposed(u, dp, mean);
  solve_upper(u, dp, mean);
  e.prior = p;
  e.prior_mean = mean;
  e.is_factored = true;
  return all_finite(mean, d) ? kLearned : kNotFinite;
}

// The same of a diagonal one, over the places that the rows touch.
Status open_diagonal(const LearnJob& job, int64_t index, const double* shift, const double* precision, Entity& e,
                     Workspace& ws) {
  double *p = ws.get(kPrior, e.mp), *mean = ws.get(kPriorMean, e.mp);
  std::fill(p, p + e.mp, 1.0);
  std::fill(mean, mean + e.mp, 0.0);
  for (int64_t j = 0; j < e.m; ++j) {
    const int64_t place = ws.place.empty() ? j : ws.place[static_cast<size_t>(j)];
    const int64_t column = column_at(job.after, job.after.start[index], place);
    p[j] = job.prior.precision[column] + precision[place];
    mean[j] = (job.prior.precision[column] * job.prior.mean[column] + shift[place]) / p[j];
  }
  e.prior = p;
  e.prior_mean = mean;
  return all_finite(mean, e.m) ? kLearned : kNotFinite;
}

// Adds what the rows say to the evidence; kResidual holds r as the solver left it. False, and nothing is added, if that
// would be beyond the largest number.
bool add_rows_learned(const LearnJob& job, int64_t index, Entity& e, double* shift, double* precision, Workspace& ws) {
  const int64_t size = block_size(job.after, index);
  double *push = ws.get(kResidual, e.np), *linear = ws.get(kQ, e.np), *less = ws.get(kGradient, std::max(e.np, e.mp));
  std::fill(less, less + e.mp, 0.0);
  if (e.full) {   // and so e.x is there
    DenseRows::multiply(e, e.mean, linear);
    for (int64_t i = 0; i < e.np; ++i) push[i] += e.curvature[i] * linear[i];
  }
  if (e.x) DenseRows::subtract_transposed(e, push, less);
  else SparseRows::subtract_transposed(e, push, less);
  if (!job.after.full) {
    double* squares = ws.get(kStep, e.mp);
    std::fill(squares, squares + e.mp, 0.0);
    add_all_squares(e, ws, squares);
    const auto place = [&](int64_t j) { return ws.place.empty() ? j : ws.place[static_cast<size_t>(j)]; };
    int wrong = 0;
    for (int64_t j = 0; j < e.m; ++j) {
      less[j] -= squares[j] * e.mean[j];
      wrong |= !std::isfinite(shift[place(j)] - less[j]) || !std::isfinite(precision[place(j)] + squares[j]);
    }
    for (int64_t j = 0; wrong == 0 && j < e.m; ++j) {
      shift[place(j)] -= less[j];
      precision[place(j)] += squares[j];
    }
    return wrong == 0;
  }
  const int32_t* compact = ws.compact.data();
  double* h = ws.get(kHessian, e.mp * e.mp);
  std::fill(h, h + e.mp * e.mp, 0.0);
  add_gram(h, e.mp, e.x, e.n, e.curvature, ws.get(kPanel, kBlock * std::max(e.np, e.mp)));
  int wrong = 0;
  for (int64_t j = 0, diagonal = 0; j < size; diagonal += size - j, ++j) {
    if (compact[j] < 0) continue;
    wrong |= !std::isfinite(shift[j] - less[compact[j]]);
    wrong |= !std::isfinite(precision[diagonal] + h[compact[j] * (e.mp + 1)]);
  }
  if (wrong) return false;
  for (int64_t j = 0; j < size; precision += size - j, ++j) {
    if (compact[j] < 0) continue;
    const double* row = h + compact[j] * e.mp;
    shift[j] -= less[compact[j]];
    if (e.m == size) for (int64_t k = j; k < size; ++k) precision[k - j] += row[k];
    else for (int64_t k = j; k < size; ++k) if (compact[k] >= 0) precision[k - j] += row[compact[k]];
  }
  return true;
}

Status learn_batch(const LearnJob& job, int64_t index, int64_t batch, const Places& places, double* shift,
                   double* precision, Workspace& ws) {
  if (job.rows.row_start[batch] == job.rows.row_start[batch + 1]) return kNoRows;
  const int64_t size = block_size(job.after, index);
  const double keep = job.keep ? job.keep[batch] : 1.0;
  if (keep != 1.0) {
    for (int64_t j = 0; j < size; ++j) shift[j] *= keep;
    for (int64_t j = 0; j < (job.after.full ? packed_size(size) : size); ++j) precision[j] *= keep;
  }
  select_rows(job, batch, ws, [&](int64_t row, bool learned) { job.row_learned[row] = learned; });
  Entity e;
  e.outcome = job.outcome;
  e.full = job.after.full;
  e.m = e.full ? lay_out_belief(job, index, batch, places, ws) : size;
  if (ws.row.empty()) return kNoRows;
  ws.place.clear();
  if (job.rows.indptr) {
    if (!gather_sparse(job.rows, places, ws)) return kFeatureOutsideBlock;
    if (!e.full) e.m = keep_touched(size, ws);
    else for (int32_t& j : ws.sparse_column) j = ws.compact[static_cast<size_t>(j)];
    e.nonzeros = static_cast<int64_t>(ws.sparse_column.size());
    e.sparse_start = ws.sparse_start.data();
    e.sparse_column = ws.sparse_column.data();
    e.sparse_value = ws.get(kSparse, e.nonzeros);
  }
  if (e.m == 0) return kLearned;   // rows without features: nothing to learn
  e.mp = padded(e.m);
  gather_scalars(job, e, ws);
  const auto open = e.full ? open_full : open_diagonal;
  if (const Status status = open(job, index, shift, precision, e, ws)) return status;
  if (!has_positive_diagonal(e)) return kNotPositiveDefinite;
  e.mean = ws.get(kMean, e.mp);
  const Status status = solve(job.rows, e, ws, choose_method(e), e.full, job.tolerance, job.max_steps);
  job.steps[batch] = e.steps;
  if (status != kLearned) return status;
  if (!all_finite(e.mean, e.m) || !all_finite(e.curvature, e.n)) return kNotFinite;
  return add_rows_learned(job, index, e, shift, precision, ws) ? kLearned : kNotFinite;
}

void learn_entity(const LearnJob& job, int64_t e, Workspace& ws) {
  double* shift = job.after.mean + job.after.start[e];
  double* precision = job.after.precision + (job.after.full ? job.after.packed_start[e] : job.after.start[e]);
  const bool fits = begin_evidence(job, e, shift, precision, ws);
  const Places places(job.rows, job.after, e, ws);
  for (int64_t batch = job.batch_start[e]; batch < job.batch_start[e + 1]; ++batch) {
    job.steps[batch] = 0;
    job.status[batch] = fits ? learn_batch(job, e, batch, places, shift, precision, ws) : kFeatureOutsideBlock;
  }
}

}  // namespace

void run_learn(const LearnJob& job, int64_t from, int64_t to) {
  Workspace& ws = own_workspace();
  for (int64_t e = from; e < to; ++e) learn_entity(job, e, ws);
}

void run_extract(const CompleteJob& job, int64_t from, int64_t to) {
  Workspace ws;
  for (int64_t e = from; e < to; ++e) job.status[e] = extract_entity(job, e, ws);
}

void run_moments(const MomentsJob& job, int64_t chunk, int64_t from, int64_t to) {
  Workspace ws;
  for (int64_t e = from; e < to; ++e) job.status[e] = moments_entity(job, e, chunk, ws);
}

void run_complete(const CompleteJob& job, int64_t from, int64_t to) {
  Workspace ws;
  for (int64_t e = from; e < to; ++e) job.status[e] = complete_entity(job, e, ws);
}

}  // namespace nearline::NEARLINE_ISA
