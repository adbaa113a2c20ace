// Dense linear algebra for one small symmetric positive definite problem.
//
// Matrices are row-major with a leading dimension that is a multiple of kBlock; of symmetric and triangular
// ones the upper triangle holds the values and what lies below the diagonal is never read. Dimensions are
// padded to a multiple of kBlock: with ones on the diagonal, zeros elsewhere.
#pragma once

#include "simd.hpp"

namespace nearline::NEARLINE_ISA {

inline int64_t padded(int64_t n) { return (n + kBlock - 1) / kBlock * kBlock; }

// The one hot loop: a tile C[kTileRows][V vectors] += sign * sum_k a[k][0..rows) b[k][0..V vectors).
template <int V>
inline void tile(double* c, int64_t ldc, const double* a, int64_t lda, const double* b, int64_t ldb, int64_t depth,
                 double sign) {
  Vec acc[kTileRows][V] = {};
  for (int64_t k = 0; k < depth; ++k, a += lda, b += ldb) {
    Vec right[V];
    NEARLINE_UNROLL
    for (int v = 0; v < V; ++v) right[v] = load(b + v * kWidth);
    NEARLINE_UNROLL
    for (int i = 0; i < kTileRows; ++i) {
      const Vec left = splat(a[i]);
      NEARLINE_UNROLL
      for (int v = 0; v < V; ++v) acc[i][v] += left * right[v];
    }
  }
  NEARLINE_UNROLL
  for (int i = 0; i < kTileRows; ++i) {
    NEARLINE_UNROLL
    for (int v = 0; v < V; ++v) {
      double* to = c + i * ldc + v * kWidth;
      store(to, load(to) + sign * acc[i][v]);
    }
  }
}

// C[kBlock rows][from, to) += sign * A[:, kBlock columns]' B[:, from..to), summed over `depth` rows.
inline void add_product_rows(double* c, int64_t ldc, const double* a, int64_t lda, const double* b, int64_t ldb,
                             int64_t depth, int64_t from, int64_t to, double sign) {
  if (depth == 0) return;
  for (int64_t i = 0; i < kBlock; i += kTileRows) {
    int64_t j = from;
    for (; j + kTileVectors * kWidth <= to; j += kTileVectors * kWidth)
      tile<kTileVectors>(c + i * ldc + j, ldc, a + i, lda, b + j, ldb, depth, sign);
    if (j + 2 * kWidth <= to) {
      tile<2>(c + i * ldc + j, ldc, a + i, lda, b + j, ldb, depth, sign);
      j += 2 * kWidth;
    }
    for (; j < to; j += kWidth) tile<1>(c + i * ldc + j, ldc, a + i, lda, b + j, ldb, depth, sign);
  }
}

// Upper triangle of C[d][d] += A' B, A and B of `rows` rows and d columns (A' B symmetric).
inline void add_symmetric_product(double* c, int64_t d, const double* a, const double* b, int64_t rows) {
  for (int64_t i = 0; i < d; i += kBlock) add_product_rows(c + i * d, d, a + i, d, b, d, rows, i, d, 1.0);
}

// P = U' U in place, block row by block row. False if P is not positive definite (or not finite).
inline bool cholesky(double* p, int64_t d) {
  for (int64_t i = 0; i < d; i += kBlock) {
    double* panel = p + i * d;
    add_product_rows(panel, d, p + i, d, p, d, i, i, d, -1.0);
    double diagonal[kBlock][kBlock];
    double inverse[kBlock];
    for (int r = 0; r < kBlock; ++r)
      for (int j = r; j < kBlock; ++j) diagonal[r][j] = panel[r * d + i + j];
    for (int k = 0; k < kBlock; ++k) {
      const double pivot = diagonal[k][k];
      if (!(pivot > 0.0) || !std::isfinite(pivot)) return false;
      const double root = std::sqrt(pivot);
      inverse[k] = 1.0 / root;
      diagonal[k][k] = root;
      for (int j = k + 1; j < kBlock; ++j) diagonal[k][j] *= inverse[k];
      for (int r = k + 1; r < kBlock; ++r)
        for (int j = r; j < kBlock; ++j) diagonal[r][j] -= diagonal[k][r] * diagonal[k][j];
    }
    for (int r = 0; r < kBlock; ++r)
      for (int j = r; j < kBlock; ++j) panel[r * d + i + j] = diagonal[r][j];
    for (int64_t j = i + kBlock; j < d; j += kWidth) {
      Vec row[kBlock];
      NEARLINE_UNROLL
      for (int r = 0; r < kBlock; ++r) row[r] = load(panel + r * d + j);
      NEARLINE_UNROLL
      for (int k = 0; k < kBlock; ++k) {
        row[k] = row[k] * splat(inverse[k]);
        NEARLINE_UNROLL
        for (int r = k + 1; r < kBlock; ++r) row[r] -= splat(diagonal[k][r]) * row[k];
      }
      NEARLINE_UNROLL
      for (int r = 0; r < kBlock; ++r) store(panel + r * d + j, row[r]);
    }
  }
  return true;
}

// Start of the aligned stretch of row i that holds its upper part; U's entries before i in it are not read.
inline int64_t after(int64_t i) { return (i / kBlock + 1) * kBlock; }

// z <- U'^-1 z.
inline void solve_transposed(const double* u, int64_t d, double* z) {
  for (int64_t i = 0; i < d; ++i) {
    const double* row = u + i * d;
    z[i] /= row[i];
    const int64_t next = after(i);
    for (int64_t j = i + 1; j < next; ++j) z[j] -= z[i] * row[j];
    add_scaled(z + next, -z[i], row + next, d - next);
  }
}

// z <- U^-1 z.
inline void solve_upper(const double* u, int64_t d, double* z) {
  for (int64_t i = d - 1; i >= 0; --i) {
    const double* row = u + i * d;
    const int64_t next = after(i);
    double value = z[i] - dot(row + next, z + next, d - next);
    for (int64_t j = i + 1; j < next; ++j) value -= row[j] * z[j];
    z[i] = value / row[i];
  }
}

// Z <- U'^-1 Z for the d x columns matrix Z (leading dimension `columns`, a multiple of kBlock).
inline void solve_transposed_many(const double* u, int64_t d, double* z, int64_t columns) {
  for (int64_t i = 0; i < d; i += kBlock) {
    double* panel = z + i * columns;
    add_product_rows(panel, columns, u + i, d, z, columns, i, 0, columns, -1.0);
    for (int64_t j = 0; j < columns; j += kWidth) {
      Vec row[kBlock];
      NEARLINE_UNROLL
      for (int r = 0; r < kBlock; ++r) row[r] = load(panel + r * columns + j);
      NEARLINE_UNROLL
      for (int k = 0; k < kBlock; ++k) {
        row[k] = row[k] / splat(u[(i + k) * d + i + k]);
        NEARLINE_UNROLL
        for (int r = k + 1; r < kBlock; ++r) row[r] -= splat(u[(i + k) * d + i + r]) * row[k];
      }
      NEARLINE_UNROLL
      for (int r = 0; r < kBlock; ++r) store(panel + r * columns + j, row[r]);
    }
  }
}

// out = P v for symmetric P.
inline void multiply_symmetric(const double* p, int64_t d, const double* v, double* out) {
  std::memset(out, 0, static_cast<size_t>(d) * sizeof(double));
  for (int64_t i = 0; i < d; ++i) {
    const double* row = p + i * d;
    const int64_t next = after(i);
    double own = row[i] * v[i] + dot(row + next, v + next, d - next);
    for (int64_t j = i + 1; j < next; ++j) {
      own += row[j] * v[j];
      out[j] += row[j] * v[i];
    }
    out[i] += own;
    add_scaled(out + next, v[i], row + next, d - next);
  }
}

}  // namespace nearline::NEARLINE_ISA
