// Mean, variance and draws of the scores of rows under the beliefs about their entities. Compiled once per instruction
// set, as entity.cpp.
#include "entity.hpp"
#include "normals.hpp"

#include <type_traits>

namespace nearline::NEARLINE_ISA {
namespace {

constexpr int64_t kTogether = 2 * kTileVectors * kBlock;   // rows whose draws are found together

template <class T>
Vec load_any(const T* p) {
  typedef T Narrow __attribute__((vector_size(sizeof(T) * kWidth)));
  Narrow v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, Vec);
}

constexpr int kAtOnce = 4;   // rows whose sums are under way together: as many as hide the latency of an addition

// acc[r] <- the products of row(r) and b in [0, to), a multiple of kWidth, in kWidth sums. What lies `ahead` of the rows
// is fetched meanwhile.
template <class T, class Row>
inline void add_products(const Row& row, int64_t ahead, const double* b, int64_t to, Vec* acc) {
  Vec own[kAtOnce] = {};
  const T* x[kAtOnce];
  for (int r = 0; r < kAtOnce; ++r) x[r] = row(r);
  for (int64_t j = 0; j < to; j += kWidth) {
    const Vec right = load(b + j);
    NEARLINE_UNROLL
    for (int r = 0; r < kAtOnce; ++r) {
      __builtin_prefetch(x[r] + (j + ahead));
      own[r] += load_any(x[r] + j) * right;
    }
  }
  NEARLINE_UNROLL
  for (int r = 0; r < kAtOnce; ++r) acc[r] = own[r];
}

// x . b of kBlock rows of d values: a row's sum is made of the same additions whatever the other rows are.
template <class T, class Row>
inline void dot_dense(const Row& row, int64_t ahead, const double* b, int64_t d, double* out) {
  const int64_t whole = d / kWidth * kWidth;
  Vec acc[kBlock];
  NEARLINE_UNROLL
  for (int from = 0; from < kBlock; from += kAtOnce)
    add_products<T>([&](int r) { return row(from + r); }, ahead, b, whole, acc + from);
  NEARLINE_UNROLL
  for (int r = 0; r < kBlock; r += kWidth) store(out + r, sums(acc + r));
  for (int r = 0; whole < d && r < kBlock; ++r) {
    double rest = 0.0;
    for (int64_t j = whole; j < d; ++j) rest += static_cast<double>(row(r)[j]) * b[j];
    out[r] += rest;
  }
}

template <class T, class Put>
void dot_dense_rows(const Rows& rows, const T* x, int64_t e, const double* b, int64_t d, const Put& put) {
  const int64_t to = rows.row_start[e + 1], apart = rows.columns;
  int64_t i = rows.row_start[e];
  double out[kBlock];
  for (; !rows.row && i + kBlock <= to; i += kBlock) {   // one after the other
    const T* first = x + i * apart;
    dot_dense<T>([&](int r) { return first + r * apart; }, kAtOnce * apart, b, d, out);
    for (int r = 0; r < kBlock; ++r) put(i + r, out[r]);
  }
  for (; i < to; i += kBlock) {
    const int64_t count = std::min<int64_t>(kBlock, to - i);
    int64_t place[kBlock];   // the last row again where there are no more
    for (int64_t r = 0; r < kBlock; ++r) place[r] = i + std::min(r, count - 1);
    for (int64_t r = 0; rows.row && r < kBlock; ++r) place[r] = rows.row[place[r]];
    dot_dense<T>([&](int r) { return x + place[r] * apart; }, kAtOnce * apart, b, d, out);
    for (int64_t r = 0; r < count; ++r) put(place[r], out[r]);
  }
}

// Calls put(row, x . b) for each row of entity e. False if a feature lies outside the block.
template <class Put>
bool dot_rows_of(const Rows& rows, int64_t e, const Places& places, const double* b, int64_t d, const Put& put) {
  if (!rows.indptr) {
    if (rows.dense32) dot_dense_rows(rows, rows.dense32, e, b, d, put);
    else dot_dense_rows(rows, rows.dense, e, b, d, put);
    return true;
  }
  for (int64_t i = rows.row_start[e]; i < rows.row_start[e + 1]; ++i) {
    const int64_t row = rows.row ? rows.row[i] : i;
    double total = 0.0;
    for (int64_t k = rows.indptr[row]; k < rows.indptr[row + 1]; ++k) {
      const int32_t j = places.find(rows.indices[k]);
      if (j < 0) return false;
      total += rows.values[k] * b[j];
    }
    put(row, total);
  }
  return true;
}

// `count` rows as columns of x [dp][width], zeros in the padding. False if a feature lies outside the block.
bool gather_columns(const Rows& rows, const int64_t* row, int64_t count, const Places& places, int64_t d, double* x,
                    int64_t width) {
  const int64_t dp = padded(d);
  if (rows.indptr || count < width || d < dp) std::fill(x, x + dp * width, 0.0);
  for (int64_t i = 0; i < count; ++i) {
    if (!rows.indptr) {
      for (int64_t j = 0; j < d; ++j) x[j * width + i] = feature(rows, row[i], j);
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

// x' diag(precision)^-1 x of each row, all of whose features the block is known to have. Sparse rows may name a column
// twice: they are summed in x first.
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

// W = U^-1 as it is read: of kTileVectors vectors of columns at a time, or of the last 1 or 2, their rows down to the
// diagonal.
struct Inverse {
  const double* w;
  int64_t dp;
};

// squares[i] += the squares of (x_i' W)[c .. c + V vectors) for kTileRows rows x_i, `apart` from each other. Returns
// where the next columns of W are.
template <int V>
const double* add_square_tile(const double* x, int64_t apart, const double* w, int64_t c, Vec* squares) {
  Vec acc[kTileRows][V] = {};
  int64_t k = 0;
  const auto add = [&](auto first, int64_t to) {   // below the diagonal of the vectors before `first`
    for (; k < to; ++k, w += V * kWidth) {
      Vec right[V];
      NEARLINE_UNROLL
      for (int v = first; v < V; ++v) right[v] = load(w + v * kWidth);
      NEARLINE_UNROLL
      for (int i = 0; i < kTileRows; ++i) {
        const Vec left = splat(x[i * apart + k]);
        NEARLINE_UNROLL
        for (int v = first; v < V; ++v) acc[i][v] += left * right[v];
      }
    }
  };
  add(std::integral_constant<int, 0>(), c + kWidth);
  if constexpr (V > 1) add(std::integral_constant<int, 1>(), c + 2 * kWidth);
  if constexpr (V > 2) add(std::integral_constant<int, 2>(), c + 3 * kWidth);
  NEARLINE_UNROLL
  for (int i = 0; i < kTileRows; ++i) {
    NEARLINE_UNROLL
    for (int v = 0; v < V; ++v) squares[i] += acc[i][v] * acc[i][v];
  }
  return w;
}

// x' P^-1 x = |x' U^-1|^2 of kTileRows rows x, padded with zeros.
void variances_of_tile(const double* x, int64_t apart, const Inverse& inverse, double* out) {
  static_assert(kTileVectors == 3);
  Vec squares[kTileRows] = {};
  const double* w = inverse.w;
  int64_t c = 0;
  for (; c + 3 * kWidth <= inverse.dp; c += 3 * kWidth) w = add_square_tile<3>(x, apart, w, c, squares);
  if (c + 2 * kWidth <= inverse.dp) add_square_tile<2>(x, apart, w, c, squares);
  else if (c < inverse.dp) add_square_tile<1>(x, apart, w, c, squares);
  for (int i = 0; i < kTileRows; ++i) out[i] = sum(squares[i]);
}

// `half` and `w` have room for squares.
Inverse invert_factor(const double* u, int64_t dp, double* half, double* w, double* panel) {
  std::fill(half, half + dp * dp, 0.0);
  for (int64_t j = 0; j < dp; ++j) half[j * dp + j] = 1.0;
  solve_transposed_many<true>(u, dp, half, dp, panel);   // U'^-1 = W'
  double* to = w;
  for (int64_t c = 0; c < dp; c += kTileVectors * kWidth) {
    const int64_t width = std::min<int64_t>(kTileVectors * kWidth, dp - c);
    for (int64_t k = 0; k < c + width; ++k, to += width)
      for (int64_t j = 0; j < width; ++j) to[j] = half[(c + j) * dp + k];
  }
  return {w, dp};
}

// x' P^-1 x of each row, likewise.
void add_full_variances(const ScoreJob& job, int64_t e, const Belief& belief, const Places& places, Workspace& ws) {
  const Rows& rows = job.rows;
  const int64_t dp = belief.dp, from = rows.row_start[e], to = rows.row_start[e + 1];
  double *x = ws.get(kX, kTileRows * dp), *panel = ws.get(kPanel, kBlock * dp);
  const auto at = [&](int64_t i) { return rows.row ? rows.row[i] : i; };
  if (to - from < kTileRows) {   // too few to be worth an inverse
    for (int64_t i = from; i < to; ++i) {
      gather_row(rows, at(i), places, belief, x);
      solve_transposed(belief.u, dp, x);
      job.variance[at(i)] = dot(x, x, dp);
    }
    return;
  }
  double *half = ws.get(kGram, dp * dp), *w = ws.get(kDualB, dp * dp);
  const Inverse inverse = invert_factor(belief.u, dp, half, w, panel);
  const bool in_place = rows.dense && !rows.row && belief.d == dp;
  for (int64_t i = from; i < to; i += kTileRows) {
    const int64_t count = std::min<int64_t>(kTileRows, to - i);
    const double* tile = in_place ? rows.dense + i * rows.columns : x;
    if (!in_place || count < kTileRows) {
      for (int64_t r = 0; r < kTileRows; ++r) {
        if (r < count) gather_row(rows, at(i + r), places, belief, x + r * dp);
        else std::fill(x + r * dp, x + (r + 1) * dp, 0.0);
      }
      tile = x;
    }
    double out[kTileRows];
    variances_of_tile(tile, dp, inverse, out);
    for (int64_t r = 0; r < count; ++r) job.variance[at(i + r)] = out[r];
  }
}

Status score_entity(const ScoreJob& job, int64_t e, Workspace& ws) {
  Belief belief;
  if (!open_belief(job.beliefs, e, ws, job.variance != nullptr, belief, job.factor)) return kNotPositiveDefinite;
  const Places places(job.rows, job.beliefs, e, ws);
  const auto put = [&](int64_t row, double score) { job.mean[row] = score; };
  if (!dot_rows_of(job.rows, e, places, belief.mean, belief.d, put)) return kFeatureOutsideBlock;
  if (!job.variance) return kLearned;
  if (belief.u) add_full_variances(job, e, belief, places, ws);
  else add_diagonal_variances(job, e, belief, places, ws);
  return kLearned;
}

// The normals of `draws` draws from that number on: put(draw, j, normal).
template <class Put>
void for_normals_of(const DrawJob& job, int64_t e, int64_t d, int64_t first, int64_t draws, Workspace& ws, const Put& put) {
  const int32_t* column = job.beliefs.column ? job.beliefs.column + job.beliefs.start[e] : nullptr;
  const DrawName name{job.request, job.key[e], job.first + static_cast<uint64_t>(first)};
  for_normals(name, {column, d}, draws, ws.get(kSquares, 2 * padded(draws * d)), put);
}

// z <- U^-1 z for U [d][d] as it is packed; z is padded with zeros. The same additions in the same order as
// solve_upper, without the square.
void solve_upper_packed(const double* packed, int64_t d, int64_t dp, double* z) {
  for (int64_t i = dp - kBlock; i >= 0; i -= kBlock) {
    const int64_t rows = std::min<int64_t>(kBlock, d - i);
    const double* row[kBlock];   // row[r][j] is U[i + r][j], and of the padding any row at all
    for (int64_t r = 0; r < kBlock; ++r) {
      const int64_t k = i + std::min(r, rows - 1);
      row[r] = packed + k * d - k * (k - 1) / 2 - k;
    }
    Vec acc[kBlock] = {};
    int64_t j = i + kBlock;
    for (; j + kWidth <= d; j += kWidth) {
      const Vec right = load(z + j);
      NEARLINE_UNROLL
      for (int r = 0; r < kBlock; ++r) acc[r] += load(row[r] + j) * right;
    }
    for (int64_t at = j; at < d; at += kWidth) {   // the last columns, short of a vector
      const Vec right = load(z + at);
      for (int r = 0; r < kBlock; ++r) {
        double some[kWidth] = {};
        std::copy(row[r] + at, row[r] + d, some);
        acc[r] += load(some) * right;
      }
    }
    double own[kBlock], block[kBlock][kBlock] = {}, inverse[kBlock];
    for (int64_t r = 0; r < kBlock; ++r) {
      own[r] = z[i + r] - sum(acc[r]);
      if (r < rows) std::copy(row[r] + i + r, row[r] + i + rows, &block[r][r]);
      inverse[r] = 1.0 / (r < rows ? block[r][r] : 1.0);
    }
    NEARLINE_UNROLL
    for (int r = kBlock - 1; r >= 0; --r) {
      own[r] = r < rows ? own[r] * inverse[r] : 0.0;
      NEARLINE_UNROLL
      for (int q = 0; q < r; ++q) own[q] -= block[q][r] * own[r];
    }
    for (int r = 0; r < kBlock; ++r) z[i + r] = own[r];
  }
}

// b [d] <- mean + U^-1 z, of the draw of that number. b has room for the padding.
void draw_coefficients(const DrawJob& job, int64_t e, const Belief& belief, int64_t draw, Workspace& ws, double* b) {
  for_normals_of(job, e, belief.d, draw, 1, ws, [&](int64_t, int64_t j, double normal) { b[j] = normal; });
  std::fill(b + belief.d, b + belief.dp, 0.0);
  if (job.factor) {
    solve_upper_packed(job.factor + job.beliefs.packed_start[e], belief.d, belief.dp, b);
  } else if (belief.u) {
    solve_upper(belief.u, belief.dp, b);
  } else {
    for (int64_t j = 0; j < belief.d; ++j) b[j] /= std::sqrt(belief.diagonal[j]);
  }
  for (int64_t j = 0; j < belief.d; ++j) b[j] += belief.mean[j];
}

// The same of kBlock draws from that number on, or of those that are left of them: panel [dp][kBlock].
void draw_panel(const DrawJob& job, int64_t e, const Belief& belief, int64_t first, Workspace& ws, double* panel) {
  std::fill(panel, panel + belief.dp * kBlock, 0.0);
  const int64_t draws = std::min<int64_t>(kBlock, job.draws - first);
  for_normals_of(job, e, belief.d, first, draws, ws,
                 [&](int64_t k, int64_t j, double normal) { panel[j * kBlock + k] = normal; });
  if (belief.u) solve_upper_panel(belief.u, belief.dp, panel);
  for (int64_t j = 0; j < belief.d; ++j) {
    const double scale = belief.u ? 1.0 : 1.0 / std::sqrt(belief.diagonal[j]);
    for (int k = 0; k < kBlock; ++k) panel[j * kBlock + k] = belief.mean[j] + scale * panel[j * kBlock + k];
  }
}

Status draw_one_by_one(const DrawJob& job, int64_t e, const Belief& belief, const Places& places,
                       Workspace& ws) {
  double* b = ws.get(kStep, belief.dp);
  for (int64_t draw = 0; draw < job.draws; ++draw) {
    draw_coefficients(job, e, belief, draw, ws, b);
    double* scores = job.scores + draw * job.count;
    const auto put = [&](int64_t row, double score) { scores[row] += score; };
    if (!dot_rows_of(job.rows, e, places, b, belief.d, put)) return kFeatureOutsideBlock;
  }
  return kLearned;
}

// All draws first, in panels of kBlock of them; then the products of rows and draws, kTogether rows at a time.
Status draw_many(const DrawJob& job, int64_t e, const Belief& belief, const Places& places, Workspace& ws) {
  const int64_t dp = belief.dp;
  double* panels = ws.get(kXt, dp * padded(job.draws));
  for (int64_t draw = 0; draw < job.draws; draw += kBlock) draw_panel(job, e, belief, draw, ws, panels + draw * dp);
  const bool sound = for_rows(job.rows, e, [&](const int64_t* row, int64_t n) {
    const int64_t width = padded(n);
    double *x = ws.get(kX, dp * width), *product = ws.get(kGram, kBlock * width);
    if (!gather_columns(job.rows, row, n, places, belief.d, x, width)) return false;
    for (int64_t draw = 0; draw < job.draws; draw += kBlock) {
      std::fill(product, product + kBlock * width, 0.0);
      add_product_rows(product, width, panels + draw * dp, x, width, dp, 0, width, 1.0);
      for (int64_t k = 0; k < std::min<int64_t>(kBlock, job.draws - draw); ++k) {
        const double* from = product + k * width;
        double* scores = job.scores + (draw + k) * job.count;
        if (job.rows.row) {
          for (int64_t i = 0; i < n; ++i) scores[row[i]] += from[i];
        } else {   // one after the other
          scores += row[0];
          for (int64_t i = 0; i < n; ++i) scores[i] += from[i];
        }
      }
    }
    return true;
  });
  return sound ? kLearned : kFeatureOutsideBlock;
}

Status draw_entity(const DrawJob& job, int64_t e, Workspace& ws) {
  Belief belief;
  const bool one_by_one = job.draws < kBlock, unpacked = !(one_by_one && job.factor);
  if (!open_belief(job.beliefs, e, ws, unpacked, belief, job.factor)) return kNotPositiveDefinite;
  const Places places(job.rows, job.beliefs, e, ws);
  if (one_by_one) return draw_one_by_one(job, e, belief, places, ws);
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
