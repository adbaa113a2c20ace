// Dense linear algebra for one small symmetric positive definite problem.
//
// Matrices are row-major with a leading dimension that is a multiple of kBlock. Of symmetric and triangular ones
// only the upper triangle is read, and the whole of the kBlock x kBlock blocks on the diagonal of symmetric ones.
// Dimensions are padded to a multiple of kBlock: with ones on the diagonal, zeros elsewhere.
#pragma once

#include <algorithm>

#include "simd.hpp"

namespace nearline::NEARLINE_ISA {

constexpr int kLanes = kBlock / kWidth;   // vectors that make up a block's width

inline int64_t padded(int64_t n) { return (n + kBlock - 1) / kBlock * kBlock; }

// The one hot loop: a tile C[kTileRows][V vectors] += sign * sum_k a[k][0..rows) b[k][0..V vectors), where the
// a[k] lie kBlock apart.
template <int V>
inline void tile(double* c, int64_t ldc, const double* a, const double* b, int64_t ldb, int64_t depth, double sign) {
  Vec acc[kTileRows][V] = {};
  for (int64_t k = 0; k < depth; ++k, a += kBlock, b += ldb) {
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

// C[kBlock rows][from, to) += sign * A' B[:, from..to), for the `depth` x kBlock panel A, stored without gaps.
inline void add_product_rows(double* c, int64_t ldc, const double* panel, const double* b, int64_t ldb, int64_t depth,
                             int64_t from, int64_t to, double sign) {
  if (depth == 0) return;
  for (int64_t i = 0; i < kBlock; i += kTileRows) {
    int64_t j = from;
    for (; j + kTileVectors * kWidth <= to; j += kTileVectors * kWidth)
      tile<kTileVectors>(c + i * ldc + j, ldc, panel + i, b + j, ldb, depth, sign);
    if (j + 2 * kWidth <= to) {
      tile<2>(c + i * ldc + j, ldc, panel + i, b + j, ldb, depth, sign);
      j += 2 * kWidth;
    }
    for (; j < to; j += kWidth) tile<1>(c + i * ldc + j, ldc, panel + i, b + j, ldb, depth, sign);
  }
}

// kBlock columns of A, row by row without gaps; each row times scale[row], if given.
inline void copy_panel(double* panel, const double* a, int64_t lda, int64_t rows, const double* scale) {
  for (int64_t k = 0; k < rows; ++k) {
    NEARLINE_UNROLL
    for (int v = 0; v < kLanes; ++v) {
      const Vec values = load(a + k * lda + v * kWidth);
      store(panel + k * kBlock + v * kWidth, scale ? splat(scale[k]) * values : values);
    }
  }
}

// Upper triangle of C[d][d] += A' diag(scale) A for A of `rows` rows and d columns. `panel`: rows * kBlock.
inline void add_gram(double* c, int64_t d, const double* a, int64_t rows, const double* scale, double* panel) {
  for (int64_t i = 0; i < d; i += kBlock) {
    copy_panel(panel, a + i, d, rows, scale);
    add_product_rows(c + i * d, d, panel, a, d, rows, i, d, 1.0);
  }
}

// The kBlock x kBlock factor of a diagonal block as Cholesky leaves it: P = L D L', without square roots until
// the end, for they would be waited for one after the other.
struct DiagonalFactor {
  double multiplier[kBlock][kBlock];   // [k][r]: L[r][k]
  double scale[kBlock];                // D^-1/2
};

inline bool factor_diagonal(double* block, int64_t ld, DiagonalFactor& factor) {
  Vec row[kBlock][kLanes];
  for (int r = 0; r < kBlock; ++r)
    for (int v = 0; v < kLanes; ++v) row[r][v] = load(block + r * ld + v * kWidth);
  double pivot[kBlock];
  bool positive = true;
  NEARLINE_UNROLL
  for (int k = 0; k < kBlock; ++k) {
    pivot[k] = row[k][k / kWidth][k % kWidth];
    positive &= pivot[k] > 0.0;
    const Vec inverse = splat(1.0 / pivot[k]);
    Vec scaled[kLanes];
    NEARLINE_UNROLL
    for (int v = 0; v < kLanes; ++v) {
      scaled[v] = row[k][v] * inverse;
      store(&factor.multiplier[k][v * kWidth], scaled[v]);
    }
    NEARLINE_UNROLL
    for (int r = k + 1; r < kBlock; ++r) {
      const Vec left = splat(scaled[r / kWidth][r % kWidth]);
      NEARLINE_UNROLL
      for (int v = 0; v < kLanes; ++v) row[r][v] -= left * row[k][v];
    }
  }
  for (int k = 0; k < kBlock; ++k) {
    positive &= std::isfinite(pivot[k]);
    factor.scale[k] = 1.0 / std::sqrt(pivot[k]);
  }
  for (int r = 0; r < kBlock; ++r)
    for (int v = 0; v < kLanes; ++v) store(block + r * ld + v * kWidth, row[r][v] * splat(factor.scale[r]));
  return positive;
}

// The kBlock rows right of a diagonal block: forward substitution by its factor.
inline void substitute(double* panel, int64_t ld, int64_t from, int64_t to, const DiagonalFactor& factor) {
  for (int64_t j = from; j < to; j += kWidth) {
    Vec row[kBlock];
    NEARLINE_UNROLL
    for (int r = 0; r < kBlock; ++r) row[r] = load(panel + r * ld + j);
    NEARLINE_UNROLL
    for (int k = 0; k < kBlock; ++k) {
      NEARLINE_UNROLL
      for (int r = k + 1; r < kBlock; ++r) row[r] -= splat(factor.multiplier[k][r]) * row[k];
    }
    NEARLINE_UNROLL
    for (int r = 0; r < kBlock; ++r) store(panel + r * ld + j, splat(factor.scale[r]) * row[r]);
  }
}

// P = U' U in place, block row by block row. False if P is not positive definite (or not finite).
// `panel`: d * kBlock values of room.
inline bool cholesky(double* p, int64_t d, double* panel) {
  DiagonalFactor factor;
  for (int64_t i = 0; i < d; i += kBlock) {
    copy_panel(panel, p + i, d, i, nullptr);
    add_product_rows(p + i * d, d, panel, p, d, i, i, d, -1.0);
    if (!factor_diagonal(p + i * d + i, d, factor)) return false;
    substitute(p + i * d, d, i + kBlock, d, factor);
  }
  return true;
}

// out[r] = sum over [from, to) of row r of A times v, for kBlock rows.
inline void dot_rows(const double* a, int64_t lda, const double* v, int64_t from, int64_t to, double* out) {
  Vec acc[kBlock] = {};
  for (int64_t j = from; j < to; j += kWidth) {
    const Vec right = load(v + j);
    NEARLINE_UNROLL
    for (int r = 0; r < kBlock; ++r) acc[r] += load(a + r * lda + j) * right;
  }
  NEARLINE_UNROLL
  for (int r = 0; r < kBlock; ++r) out[r] = sum(acc[r]);
}

// y[from, to) += sum_r s[r] * row r of A, for kBlock rows.
inline void add_rows(double* y, const double* a, int64_t lda, const double* s, int64_t from, int64_t to) {
  Vec scale[kBlock];
  NEARLINE_UNROLL
  for (int r = 0; r < kBlock; ++r) scale[r] = splat(s[r]);
  for (int64_t j = from; j < to; j += kWidth) {
    Vec total = load(y + j);
    NEARLINE_UNROLL
    for (int r = 0; r < kBlock; ++r) total += scale[r] * load(a + r * lda + j);
    store(y + j, total);
  }
}

// z <- U'^-1 z. Within a block each unknown waits for the one before: unrolled, they do so in registers.
inline void solve_transposed(const double* u, int64_t d, double* z) {
  for (int64_t i = 0; i < d; i += kBlock) {
    const double* block = u + i * d + i;
    double own[kBlock], inverse[kBlock];
    for (int r = 0; r < kBlock; ++r) {
      own[r] = z[i + r];
      inverse[r] = 1.0 / block[r * d + r];
    }
    NEARLINE_UNROLL
    for (int r = 0; r < kBlock; ++r) {
      own[r] *= inverse[r];
      NEARLINE_UNROLL
      for (int j = r + 1; j < kBlock; ++j) own[j] -= own[r] * block[r * d + j];
    }
    for (int r = 0; r < kBlock; ++r) {
      z[i + r] = own[r];
      own[r] = -own[r];
    }
    add_rows(z, u + i * d, d, own, i + kBlock, d);
  }
}

// z <- U^-1 z.
inline void solve_upper(const double* u, int64_t d, double* z) {
  for (int64_t i = d - kBlock; i >= 0; i -= kBlock) {
    const double* block = u + i * d + i;
    double own[kBlock], inverse[kBlock];
    dot_rows(u + i * d, d, z, i + kBlock, d, own);
    for (int r = 0; r < kBlock; ++r) {
      own[r] = z[i + r] - own[r];
      inverse[r] = 1.0 / block[r * d + r];
    }
    NEARLINE_UNROLL
    for (int r = kBlock - 1; r >= 0; --r) {
      own[r] *= inverse[r];
      NEARLINE_UNROLL
      for (int q = 0; q < r; ++q) own[q] -= block[q * d + r] * own[r];
    }
    for (int r = 0; r < kBlock; ++r) z[i + r] = own[r];
  }
}

// Z <- U^-1 Z for kBlock right sides, Z [d][kBlock].
inline void solve_upper_panel(const double* u, int64_t d, double* z) {
  for (int64_t i = d - kBlock; i >= 0; i -= kBlock) {
    for (int v = 0; v < kBlock; v += kWidth) {
      Vec own[kBlock] = {};
      for (int64_t j = i + kBlock; j < d; ++j) {
        const Vec right = load(z + j * kBlock + v);
        NEARLINE_UNROLL
        for (int r = 0; r < kBlock; ++r) own[r] += splat(u[(i + r) * d + j]) * right;
      }
      NEARLINE_UNROLL
      for (int r = kBlock - 1; r >= 0; --r) {
        own[r] = load(z + (i + r) * kBlock + v) - own[r];
        NEARLINE_UNROLL
        for (int q = r + 1; q < kBlock; ++q) own[r] -= splat(u[(i + r) * d + i + q]) * own[q];
        own[r] *= splat(1.0 / u[(i + r) * d + i + r]);
        store(z + (i + r) * kBlock + v, own[r]);
      }
    }
  }
}

// Z <- U'^-1 Z for the d x columns matrix Z (leading dimension `columns`, a multiple of kBlock). If Z is lower
// triangular it stays so, and what is zero may be left out.
template <bool lower = false>
inline void solve_transposed_many(const double* u, int64_t d, double* z, int64_t columns, double* panel) {
  DiagonalFactor factor;
  for (int64_t i = 0; i < d; i += kBlock) {
    const int64_t to = lower ? i + kBlock : columns;
    copy_panel(panel, u + i, d, i, nullptr);
    add_product_rows(z + i * columns, columns, panel, z, columns, i, 0, to, -1.0);
    for (int k = 0; k < kBlock; ++k) {
      const double* row = u + (i + k) * d + i;
      factor.scale[k] = 1.0 / row[k];
      for (int r = k + 1; r < kBlock; ++r)   // (L D^1/2)' = U: L[r][k] = U[k][r] / U[k][k], rows not yet scaled
        factor.multiplier[k][r] = row[r] / row[k];
    }
    substitute(z + i * columns, columns, 0, to, factor);
  }
}

// inverse = (U' U)^-1 = L' L with L = U'^-1, both triangles. `half` has room for L, `panel` for d * kBlock values.
inline void invert_factored(const double* u, int64_t d, double* half, double* inverse, double* panel) {
  std::fill(half, half + d * d, 0.0);
  for (int64_t j = 0; j < d; ++j) half[j * d + j] = 1.0;
  solve_transposed_many<true>(u, d, half, d, panel);
  std::fill(inverse, inverse + d * d, 0.0);
  for (int64_t i = 0; i < d; i += kBlock) {   // the rows above i have nothing in these columns
    copy_panel(panel, half + i * d + i, d, d - i, nullptr);
    add_product_rows(inverse + i * d, d, panel, half + i * d, d, d - i, i, d, 1.0);
  }
  for (int64_t i = 0; i < d; ++i)
    for (int64_t j = i + 1; j < d; ++j) inverse[j * d + i] = inverse[i * d + j];
}

// out = P v for symmetric P.
inline void multiply_symmetric(const double* p, int64_t d, const double* v, double* out) {
  std::fill(out, out + d, 0.0);
  for (int64_t i = 0; i < d; i += kBlock) {
    double own[kBlock];
    dot_rows(p + i * d, d, v, i, d, own);
    add_rows(out, p + i * d, d, v + i, i + kBlock, d);
    for (int r = 0; r < kBlock; ++r) out[i + r] += own[r];
  }
}

}  // namespace nearline::NEARLINE_ISA
