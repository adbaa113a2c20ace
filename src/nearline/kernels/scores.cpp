// Mean, variance and draws of the scores of rows under the beliefs about their entities. Compiled once per instruction
// set, as entity.cpp.
#include "entity.hpp"
#include "normals.hpp"

namespace nearline::NEARLINE_ISA {
namespace {

constexpr int64_t kTogether = 2 * kTileVectors * kBlock;   // rows whose variances or draws are found together

template <class T>
double dot_dense(const T* x, const double* b, int64_t d) {
  typedef T Narrow __attribute__((vector_size(sizeof(T) * kWidth)));
  const auto load_narrow = [](const T* p) {
    Narrow v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, Vec);
  };
  Vec s0 = {}, s1 = {};
  int64_t j = 0;
  for (; j + 2 * kWidth <= d; j += 2 * kWidth) {
    s0 += load_narrow(x + j) * load(b + j);
    s1 += load_narrow(x + j + kWidth) * load(b + j + kWidth);
  }
  double rest = 0.0;
  if (j + kWidth <= d) {
    s0 += load_narrow(x + j) * load(b + j);
    j += kWidth;
  }
  for (; j < d; ++j) rest += static_cast<double>(x[j]) * b[j];
  return sum(s0 + s1) + rest;
}

// x . b of one row. False if a feature lies outside the block.
bool dot_row(const Rows& rows, int64_t row, const Places& places, const double* b, int64_t d, double& out) {
  if (rows.dense) {
    out = dot_dense(rows.dense + row * rows.columns, b, d);
    return true;
  }
  if (rows.dense32) {
    out = dot_dense(rows.dense32 + row * rows.columns, b, d);
    return true;
  }
  out = 0.0;
  for (int64_t k = rows.indptr[row]; k < rows.indptr[row + 1]; ++k) {
    const int32_t j = places.find(rows.indices[k]);
    if (j < 0) return false;
    out += rows.values[k] * b[j];
  }
  return true;
}

// `count` rows as columns of x [dp][width], zeros in the padding. False if a feature lies outside the block.
bool gather_columns(const Rows& rows, const int64_t* row, int64_t count, const Places& places, int64_t d, double* x,
                    int64_t width) {
  const int64_t dp = padded(d);
  if (rows.indptr || count < width || d < dp) std::fill(x, x + dp * width, 0.0);
  for (int64_t i = 0; i < count; ++i) {
    if (rows.dense) {
      const double* from = rows.dense + row[i] * rows.columns;
      for (int64_t j = 0; j < d; ++j) x[j * width + i] = from[j];
    } else if (rows.dense32) {
      const float* from = rows.dense32 + row[i] * rows.columns;
      for (int64_t j = 0; j < d; ++j) x[j * width + i] = static_cast<double>(from[j]);
    } else {
      for (int64_t k = rows.indptr[row[i]]; k < rows.indptr[row[i] + 1]; ++k) {
        const int32_t j = places.find(rows.indices[k]);
        if (j < 0) return false;
        x[j * width + i] += rows.values[k];
      }
    }
  }
  return true;
}

// Calls work(rows, how many) for the rows of entity e, up to kTogether at a time.
template <class Work>
bool for_rows(const Rows& rows, int64_t e, const Work& work) {
  int64_t some[kTogether];
  for (int64_t i = rows.row_start[e]; i < rows.row_start[e + 1];) {
    int64_t count = 0;
    for (; count < kTogether && i < rows.row_start[e + 1]; ++i) some[count++] = rows.row ? rows.row[i] : i;
    if (!work(some, count)) return false;
  }
  return true;
}

// x' diag(precision)^-1 x of each row, all of whose features the block is known to have. Sparse rows may name a column twice: they are summed in x first.
void add_diagonal_variances(const ScoreJob& job, int64_t e, const Belief& belief, const Places& places,
                            Workspace& ws) {
  const Rows& rows = job.rows;
  double* x = ws.get(kX, belief.dp);
  if (rows.indptr) std::fill(x, x + belief.d, 0.0);
  for (int64_t i = rows.row_start[e]; i < rows.row_start[e + 1]; ++i) {
    const int64_t row = rows.row ? rows.row[i] : i;
    double total = 0.0;
    if (!rows.indptr) {
      for (int64_t j = 0; j < belief.d; ++j) total += feature(rows, row, j) * feature(rows, row, j) / belief.diagonal[j];
    } else {
      for (int64_t k = rows.indptr[row]; k < rows.indptr[row + 1]; ++k) x[places.find(rows.indices[k])] += rows.values[k];
      for (int64_t k = rows.indptr[row]; k < rows.indptr[row + 1]; ++k) {
        double& value = x[places.find(rows.indices[k])];
        total += value * value / belief.diagonal[places.find(rows.indices[k])];
        value = 0.0;
      }
    }
    job.variance[row] = total;
  }
}

// x' P^-1 x = |U'^-1 x|^2 of each row, likewise.
void add_full_variances(const ScoreJob& job, int64_t e, const Belief& belief, const Places& places, Workspace& ws) {
  const int64_t dp = belief.dp;
  for_rows(job.rows, e, [&](const int64_t* row, int64_t count) {
    const bool one = count == 1;
    const int64_t width = one ? 1 : padded(count);
    double *x = ws.get(kX, dp * width), *panel = ws.get(kPanel, kBlock * dp), *squares = ws.get(kSquares, padded(width));
    gather_columns(job.rows, row, count, places, belief.d, x, width);
    if (one) {
      solve_transposed(belief.u, dp, x);
      job.variance[row[0]] = dot(x, x, dp);
      return true;
    }
    solve_transposed_many(belief.u, dp, x, width, panel);
    std::fill(squares, squares + width, 0.0);
    for (int64_t j = 0; j < dp; ++j) {
      for (int64_t i = 0; i < width; i += kWidth) {
        const Vec value = load(x + j * width + i);
        store(squares + i, load(squares + i) + value * value);
      }
    }
    for (int64_t i = 0; i < count; ++i) job.variance[row[i]] = squares[i];
    return true;
  });
}

Status score_entity(const ScoreJob& job, int64_t e, Workspace& ws) {
  Belief belief;
  if (!open_belief(job.beliefs, e, ws, job.variance != nullptr, belief, job.factor)) return kNotPositiveDefinite;
  const Places places(job.rows, job.beliefs, e, ws);
  for (int64_t i = job.rows.row_start[e]; i < job.rows.row_start[e + 1]; ++i) {
    const int64_t row = job.rows.row ? job.rows.row[i] : i;
    if (!dot_row(job.rows, row, places, belief.mean, belief.d, job.mean[row])) return kFeatureOutsideBlock;
  }
  if (!job.variance) return kLearned;
  if (belief.u) add_full_variances(job, e, belief, places, ws);
  else add_diagonal_variances(job, e, belief, places, ws);
  return kLearned;
}

// b [d] <- mean + U^-1 z, of the draw of that number. b has room for the padding.
void draw_coefficients(const DrawJob& job, int64_t e, const Belief& belief, int64_t draw, Workspace& ws, double* b) {
  const int32_t* column = job.beliefs.column ? job.beliefs.column + job.beliefs.start[e] : nullptr;
  const DrawName name{job.request, job.key[e], job.first + static_cast<uint64_t>(draw)};
  fill_normals(name, column, belief.d, b, ws.get(kSquares, 2 * belief.dp));
  std::fill(b + belief.d, b + belief.dp, 0.0);
  if (belief.u) {
    solve_upper(belief.u, belief.dp, b);
  } else {
    for (int64_t j = 0; j < belief.d; ++j) b[j] /= std::sqrt(belief.diagonal[j]);
  }
  for (int64_t j = 0; j < belief.d; ++j) b[j] += belief.mean[j];
}

Status draw_one_by_one(const DrawJob& job, int64_t e, const Belief& belief, const Places& places,
                       Workspace& ws) {
  double* b = ws.get(kStep, belief.dp);
  for (int64_t draw = 0; draw < job.draws; ++draw) {
    draw_coefficients(job, e, belief, draw, ws, b);
    for (int64_t i = job.rows.row_start[e]; i < job.rows.row_start[e + 1]; ++i) {
      const int64_t row = job.rows.row ? job.rows.row[i] : i;
      double score;
      if (!dot_row(job.rows, row, places, b, belief.d, score)) return kFeatureOutsideBlock;
      job.scores[draw * job.count + row] += score;
    }
  }
  return kLearned;
}

// All draws first, in panels of kBlock of them; then the products of rows and draws, kTogether rows at a time.
Status draw_many(const DrawJob& job, int64_t e, const Belief& belief, const Places& places,
                 Workspace& ws) {
  const int64_t dp = belief.dp, padded_draws = padded(job.draws);
  double *b = ws.get(kStep, dp), *panels = ws.get(kXt, dp * padded_draws);
  std::fill(panels, panels + dp * padded_draws, 0.0);
  for (int64_t draw = 0; draw < job.draws; ++draw) {
    draw_coefficients(job, e, belief, draw, ws, b);
    double* panel = panels + draw / kBlock * kBlock * dp + draw % kBlock;
    for (int64_t j = 0; j < belief.d; ++j) panel[j * kBlock] = b[j];
  }
  const bool sound = for_rows(job.rows, e, [&](const int64_t* row, int64_t n) {
    const int64_t width = padded(n);
    double *x = ws.get(kX, dp * width), *product = ws.get(kGram, kBlock * width);
    if (!gather_columns(job.rows, row, n, places, belief.d, x, width)) return false;
    for (int64_t draw = 0; draw < job.draws; draw += kBlock) {
      std::fill(product, product + kBlock * width, 0.0);
      add_product_rows(product, width, panels + draw * dp, x, width, dp, 0, width, 1.0);
      for (int64_t k = 0; k < std::min<int64_t>(kBlock, job.draws - draw); ++k)
        for (int64_t i = 0; i < n; ++i) job.scores[(draw + k) * job.count + row[i]] += product[k * width + i];
    }
    return true;
  });
  return sound ? kLearned : kFeatureOutsideBlock;
}

Status draw_entity(const DrawJob& job, int64_t e, Workspace& ws) {
  Belief belief;
  if (!open_belief(job.beliefs, e, ws, true, belief, job.factor)) return kNotPositiveDefinite;
  const Places places(job.rows, job.beliefs, e, ws);
  const int64_t rows = job.rows.row_start[e + 1] - job.rows.row_start[e];
  if (job.draws < kBlock || rows < kBlock) return draw_one_by_one(job, e, belief, places, ws);
  return draw_many(job, e, belief, places, ws);
}

// Kept between calls, as in entity.cpp.
__attribute__((noinline)) Workspace& own_workspace() {
  static thread_local Workspace ws;
  return ws;
}

}  // namespace

void run_score(const ScoreJob& job, int64_t from, int64_t to) {
  Workspace& ws = own_workspace();
  for (int64_t e = from; e < to; ++e) job.status[e] = score_entity(job, e, ws);
}

void run_draw(const DrawJob& job, int64_t from, int64_t to) {
  Workspace& ws = own_workspace();
  for (int64_t e = from; e < to; ++e) job.status[e] = draw_entity(job, e, ws);
}

void run_factor(const FactorJob& job, int64_t from, int64_t to) {
  Workspace& ws = own_workspace();
  for (int64_t e = from; e < to; ++e) {
    Belief belief;
    job.status[e] = open_belief(job.beliefs, e, ws, true, belief) ? kLearned : kNotPositiveDefinite;
    if (job.status[e] == kLearned && belief.u)
      pack(belief.u, belief.d, belief.dp, job.factor + job.beliefs.packed_start[e]);
  }
}

}  // namespace nearline::NEARLINE_ISA
