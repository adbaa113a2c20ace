// The mode and curvature of one entity's posterior.
//
//   minimise  sum_i w_i loss(y_i, o_i + x_i . b) + (b - m)' P (b - m) / 2
//
// by Newton's method in one of three forms that reach the same optimum:
//   primal               factor P + X' C X (d x d) each step;                     best for many rows;
//   dual                 b = m + P^-1 X' a, factor I + C^1/2 X P^-1 X' C^1/2 (n x n) each step; best for n < d/2
//                        (Rasmussen and Williams, Gaussian Processes, algorithm 3.1);
//   conjugate gradients  for sparse rows and a diagonal P when both n and d are large.
//
// The length of a step is chosen by the slope along it alone: the objective is convex, so as long as the slope at
// the new point is not positive the objective fell. A little overshoot is let pass in the first 20 steps, for speed.
#pragma once

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "dense.hpp"
#include "problem.hpp"

namespace nearline::NEARLINE_ISA {

enum Slot : size_t {
  kX, kPanel, kXt, kY, kWeight, kOffset, kEta, kEtaTry, kResidual, kCurvature, kPrior, kPriorMean, kMean,
  kHessian, kGradient, kStep, kQ, kPb, kPs, kGram, kDualB, kA, kDelta, kT1, kT2, kSparse, kCgR, kCgZ, kCgP, kCgHp,
  kStart, kSquares, kSlots,
};

// The vector of this instruction set. The linker keeps a single copy of each template of the standard library: with an
// allocator of its own none that is compiled for AVX-512 can become everybody's.
template <class T>
struct Allocator : std::allocator<T> {
  template <class U>
  struct rebind {
    using other = Allocator<U>;
  };
};
template <class T>
using Vector = std::vector<T, Allocator<T>>;

// Numbered buffers, 64-byte aligned, grown as needed and kept from entity to entity.
class Workspace {
 public:
  double* get(size_t slot, int64_t size) {
    auto& buffer = buffers_[slot];
#ifdef NEARLINE_EXACT_BUFFERS   // under sanitizers: no room to spare, and nothing of the last entity to read
    const size_t exact = static_cast<size_t>(std::max<int64_t>(size, 1));
    if (buffer.size() != exact) Vector<double>(exact, std::nan("")).swap(buffer);
    return buffer.data();
#endif
    const size_t wanted = static_cast<size_t>(size) + 8;
    if (buffer.size() < wanted) buffer.resize(std::max(wanted, 2 * buffer.size()));
    auto address = reinterpret_cast<uintptr_t>(buffer.data());
    return reinterpret_cast<double*>((address + 63) & ~uintptr_t{63});
  }
  Vector<int32_t> position;    // column -> place in the entity's block
  Vector<uint64_t> touched;    // one bit a place in the block
  Vector<int32_t> compact;     // place in the block -> place among the touched columns
  Vector<int32_t> place;       // and back
  Vector<int64_t> row;         // rows that can be learned
  Vector<int32_t> sparse_column;
  Vector<int64_t> sparse_start;
  Vector<int64_t> column_start;   // the sparse rows by column
  Vector<int32_t> column_row;

 private:
  Vector<double> buffers_[kSlots];
};

// One entity's rows, gathered, and its prior over the m columns they touch.
struct Entity {
  int64_t n = 0, m = 0, np = 0, mp = 0;   // np, mp: padded to kBlock
  int outcome = 0;
  bool full = true;                       // the prior precision is a matrix
  double *x = nullptr;                    // [np][mp], unless only the sparse form was gathered
  double *y = nullptr, *w = nullptr, *o = nullptr;   // [np], weight zero in the padding
  const double *prior = nullptr;          // [mp][mp] upper triangle, or [mp]
  bool is_factored = false;               // kHessian holds the upper factor of a full prior already
  double *prior_mean = nullptr;           // [mp]
  const double* start = nullptr;          // [mp], or null to begin at the prior mean
  double *mean = nullptr;                 // [mp] out
  double *curvature = nullptr;            // [np] out: w_i loss''_i at the mode
  int64_t nonzeros = 0;                   // sparse form: row starts, places, values
  const int64_t* sparse_start = nullptr;
  const int32_t* sparse_column = nullptr;
  const double* sparse_value = nullptr;
  int steps = 0;
};

// residual = w (y - mean(eta)), curvature = w mean'(eta).
inline void row_terms(const Entity& e, const double* eta, double* residual, double* curvature) {
  for (int64_t i = 0; i < e.np; i += kWidth) {
    const Vec h = load(eta + i), w = load(e.w + i), y = load(e.y + i);
    Vec mean, slope;
    if (e.outcome == kBernoulli) {
      const Vec small = exp(-absolute(h));            // in (0, 1]: neither form below can overflow
      const Vec inverse = 1.0 / (1.0 + small);
      mean = h < 0.0 ? small * inverse : inverse;
      slope = small * inverse * inverse;
    } else if (e.outcome == kPoisson) {
      mean = exp(h);
      slope = mean;
    } else {
      mean = h;
      slope = splat(1.0);
    }
    store(residual + i, w * (y - mean));
    store(curvature + i, w * slope);
  }
}

// The third derivative of the loss of one row of weight 1, for np linear predictors.
inline void third_derivatives(int outcome, const double* eta, int64_t np, double* out) {
  for (int64_t i = 0; i < np; i += kWidth) {
    const Vec h = load(eta + i);
    Vec third = {};
    if (outcome == kBernoulli) {
      const Vec small = exp(-absolute(h)), inverse = 1.0 / (1.0 + small);
      third = small * (1.0 - small) * inverse * inverse * inverse;
      third = h < 0.0 ? third : -third;
    } else if (outcome == kPoisson) {
      third = exp(h);
    }
    store(out + i, third);
  }
}

struct DenseRows {
  static void multiply(const Entity& e, const double* v, double* out) {
    for (int64_t i = 0; i < e.np; i += kBlock) dot_rows(e.x + i * e.mp, e.mp, v, 0, e.mp, out + i);
  }
  static void subtract_transposed(const Entity& e, const double* r, double* g) {
    for (int64_t i = 0; i < e.np; i += kBlock) {
      double minus[kBlock];
      for (int k = 0; k < kBlock; ++k) minus[k] = -r[i + k];
      add_rows(g, e.x + i * e.mp, e.mp, minus, 0, e.mp);
    }
  }
};

struct SparseRows {
  static double multiply_row(const Entity& e, int64_t i, const double* v) {
    const auto at = [&](int64_t k) { return e.sparse_value[k] * v[e.sparse_column[k]]; };
    const int64_t to = e.sparse_start[i + 1];
    int64_t k = e.sparse_start[i];
    double s0 = 0.0, s1 = 0.0, s2 = 0.0, s3 = 0.0;   // four sums, or each would wait for the one before
    for (; k + 4 <= to; k += 4) {
      s0 += at(k);
      s1 += at(k + 1);
      s2 += at(k + 2);
      s3 += at(k + 3);
    }
    for (; k < to; ++k) s0 += at(k);
    return (s0 + s1) + (s2 + s3);
  }
  static void multiply(const Entity& e, const double* v, double* out) {
    for (int64_t i = 0; i < e.n; ++i) out[i] = multiply_row(e, i, v);
    std::fill(out + e.n, out + e.np, 0.0);
  }
  static void subtract_transposed(const Entity& e, const double* r, double* g) {
    for (int64_t i = 0; i < e.n; ++i)
      for (int64_t k = e.sparse_start[i]; k < e.sparse_start[i + 1]; ++k)
        g[e.sparse_column[k]] -= r[i] * e.sparse_value[k];
  }
  // out += X' C X v, each row read once.
  static void add_curvature_product(const Entity& e, const double* c, const double* v, double* out) {
    for (int64_t i = 0; i < e.n; ++i) {
      const double push = c[i] * multiply_row(e, i, v);
      for (int64_t k = e.sparse_start[i]; k < e.sparse_start[i + 1]; ++k)
        out[e.sparse_column[k]] += push * e.sparse_value[k];
    }
  }
};

// out[j] += sum_i c_i x_ij^2 over sparse rows. A row may name a column twice: x_ij is then the sum.
inline void add_squares(const Entity& e, Workspace& ws, const double* c, double* out) {
  double* row = ws.get(kSquares, e.mp);
  std::fill(row, row + e.mp, 0.0);
  for (int64_t i = 0; i < e.n; ++i) {
    for (int64_t k = e.sparse_start[i]; k < e.sparse_start[i + 1]; ++k) row[e.sparse_column[k]] += e.sparse_value[k];
    for (int64_t k = e.sparse_start[i]; k < e.sparse_start[i + 1]; ++k) {
      double& x = row[e.sparse_column[k]];
      out[e.sparse_column[k]] += c[i] * x * x;
      x = 0.0;
    }
  }
}

inline void multiply_prior(const Entity& e, const double* v, double* out) {
  if (e.full) return multiply_symmetric(e.prior, e.mp, v, out);
  for (int64_t j = 0; j < e.mp; ++j) out[j] = e.prior[j] * v[j];
}

// H = P + X' C X, upper triangle.
inline void assemble_hessian(const Entity& e, const double* curvature, double* panel, double* h) {
  const int64_t size = e.mp * e.mp;
  if (e.full) {
    std::copy(e.prior, e.prior + size, h);
  } else {
    std::fill(h, h + size, 0.0);
    for (int64_t j = 0; j < e.mp; ++j) h[j * e.mp + j] = e.prior[j];
  }
  add_gram(h, e.mp, e.x, e.n, curvature, panel);
}

// Solves (P + X' C X) s = -g for diagonal P to a relative residual, preconditioned by the diagonal.
inline void conjugate_gradients(const Entity& e, Workspace& ws, const double* c, const double* g, double* s) {
  double *r = ws.get(kCgR, e.mp), *z = ws.get(kCgZ, e.mp), *p = ws.get(kCgP, e.mp), *hp = ws.get(kCgHp, e.mp);
  double* inverse = ws.get(kT1, e.mp);
  std::copy(e.prior, e.prior + e.mp, inverse);
  add_squares(e, ws, c, inverse);
  for (int64_t j = 0; j < e.mp; ++j) inverse[j] = 1.0 / inverse[j];
  for (int64_t j = 0; j < e.mp; ++j) {
    s[j] = 0.0;
    r[j] = -g[j];
    z[j] = p[j] = inverse[j] * r[j];
  }
  double rz = dot(r, z, e.mp);
  // rz is about the squared Newton decrement: solve the better, the nearer the optimum (superlinear).
  const double goal = rz * std::min(0.01, rz);
  for (int64_t k = 0; k < 4 * e.mp + 20 && rz > goal && rz > 0.0; ++k) {
    for (int64_t j = 0; j < e.mp; ++j) hp[j] = e.prior[j] * p[j];
    SparseRows::add_curvature_product(e, c, p, hp);
    const double alpha = rz / dot(p, hp, e.mp);
    add_scaled(s, alpha, p, e.mp);
    add_scaled(r, -alpha, hp, e.mp);
    for (int64_t j = 0; j < e.mp; ++j) z[j] = inverse[j] * r[j];
    const double next = dot(r, z, e.mp), beta = next / rz;
    for (int64_t j = 0; j < e.mp; ++j) p[j] = z[j] + beta * p[j];
    rz = next;
  }
}

// The length t of a step from slope(0) = -decrement to a point where the slope is no longer positive (or only a
// little, while `steps` is small). Full steps are taken where they do; one that overshoots is cut back to where the
// slope is near zero, and so is one stretched that falls far short, as Newton's are while e^eta is far too large.
// slope(t) also leaves the row terms at t behind. Zero: no such point, or not finite.
template <class Slope>
inline double step_length(double decrement, int steps, Slope&& slope) {
  constexpr double kFarShort = -0.3, kNear = -0.01;
  const double slack = steps < 20 ? 0.1 : 0.0;
  double low = 0.0, at_low = -decrement, high = 0.0, at_high = 0.0, t = 1.0;   // high 0: not known yet
  for (int k = 0; k < 100; ++k) {
    const double at = slope(t);
    if (at <= slack * decrement && at >= (k == 0 ? kFarShort : high > 0.0 ? kFarShort : kNear) * decrement) return t;
    if (at < 0.0) {
      low = t;
      at_low = at;
    } else {   // too far, or not finite
      high = t;
      at_high = std::isfinite(at) ? at : 1e300;
    }
    if (high == 0.0) t *= 2.0;
    else t = low + (high - low) * std::clamp(at_low / (at_low - at_high), k % 2 ? 0.5 : 0.03, 0.97);
  }
  if (low > 0.0) slope(low);
  return low;
}

// True if nothing is left after this step: it is small in units of log likelihood and moves no linear predictor
// eta so far that the curvature would change, or it is smaller than doubles can resolve. Of an inexact step
// `prior_part`, s' P s, has a say too: it may be far from the optimum where it moves no eta.
inline bool is_last_step(const Entity& e, double decrement, double prior_part, double tolerance, const double* eta,
                         const double* q) {
  Vec largest_change = {}, largest = {};
  for (int64_t i = 0; i < e.np; i += kWidth) {   // rows of weight 0 have no say, nor has the padding
    const Vec w = load(e.w + i), moved = absolute(load(q + i)), at = absolute(load(eta + i));
    largest_change = w != 0.0 && moved > largest_change ? moved : largest_change;
    largest = w != 0.0 && at > largest ? at : largest;
  }
  double change = 0.0, size = 0.0;
  for (int k = 0; k < kWidth; ++k) {
    change = std::max(change, largest_change[k]);
    size = std::max(size, largest[k]);
  }
  if (decrement < tolerance) return change < std::sqrt(tolerance);
  return prior_part < tolerance && std::isfinite(size) && change <= 1e-13 * size;
}

// Small steps that the rounding of a badly conditioned problem keeps from getting smaller: enough of them will do.
constexpr int kSmallSteps = 5;

// Newton in b. With sparse rows the direction comes from conjugate gradients, else from a Cholesky factor.
template <class X>
Status solve_primal(Entity& e, Workspace& ws, double tolerance, int max_steps) {
  constexpr bool sparse = std::is_same_v<X, SparseRows>;
  double *eta = ws.get(kEta, e.np), *eta_try = ws.get(kEtaTry, e.np), *r = ws.get(kResidual, e.np);
  double *g = ws.get(kGradient, e.mp), *s = ws.get(kStep, e.mp), *q = ws.get(kQ, e.np);
  double *pb = ws.get(kPb, e.mp), *ps = ws.get(kPs, e.mp);
  double *h = sparse ? nullptr : ws.get(kHessian, e.mp * e.mp);
  double* panel = ws.get(kPanel, kBlock * std::max(e.np, e.mp));
  const double* begin = e.start ? e.start : e.prior_mean;
  std::copy(begin, begin + e.mp, e.mean);
  std::fill(pb, pb + e.mp, 0.0);                       // P (b - m)
  if (e.start) {
    for (int64_t j = 0; j < e.mp; ++j) s[j] = e.start[j] - e.prior_mean[j];
    multiply_prior(e, s, pb);
  }
  X::multiply(e, e.mean, eta);
  for (int64_t i = 0; i < e.np; ++i) eta[i] += e.o[i];
  row_terms(e, eta, r, e.curvature);
  int small_steps = 0;
  for (e.steps = 1; e.steps <= max_steps; ++e.steps) {
    std::copy(pb, pb + e.mp, g);
    X::subtract_transposed(e, r, g);
    if constexpr (sparse) {
      conjugate_gradients(e, ws, e.curvature, g, s);
    } else {
      assemble_hessian(e, e.curvature, panel, h);
      if (!cholesky(h, e.mp, panel)) return kNotPositiveDefinite;
      for (int64_t j = 0; j < e.mp; ++j) s[j] = -g[j];
      solve_transposed(h, e.mp, s);
      solve_upper(h, e.mp, s);
    }
    const double decrement = -dot(g, s, e.mp);
    if (!std::isfinite(decrement)) return kNotFinite;
    X::multiply(e, s, q);
    multiply_prior(e, s, ps);
    const double s_pb = dot(s, pb, e.mp), s_ps = dot(s, ps, e.mp);
    const auto slope = [&](double t) {
      for (int64_t i = 0; i < e.np; ++i) eta_try[i] = eta[i] + t * q[i];
      row_terms(e, eta_try, r, e.curvature);
      return s_pb + t * s_ps - dot(q, r, e.np);
    };
    const bool last = is_last_step(e, decrement, sparse ? s_ps : 0.0, tolerance, eta, q) ||
                      (decrement < tolerance && ++small_steps == kSmallSteps);
    double t = 1.0;
    if (last || e.outcome == kNormal) slope(t);   // rounding rules here: do not search
    else t = step_length(decrement, e.steps, slope);
    if (t == 0.0) return kNotFinite;
    std::swap(eta, eta_try);
    add_scaled(e.mean, t, s, e.mp);
    add_scaled(pb, t, ps, e.mp);
    if (last || (!sparse && e.outcome == kNormal)) return kLearned;
  }
  return kNotConverged;
}

// The most that the rows may outweigh the prior in the dual form.
constexpr double kMostDual = 1e6;

// G = X P^-1 X' [np][np] of a full prior, by whitened rows Z = P^-1/2 X' [mp][np], of which whiten_back needs to know.
// P's upper factor is left in kHessian. False if P is not positive definite.
inline bool gram_of_full(Entity& e, Workspace& ws, double* z, double* gram) {
  std::fill(z, z + e.mp * e.np, 0.0);
  for (int64_t j = 0; j < e.m; ++j)
    for (int64_t i = 0; i < e.n; ++i) z[j * e.np + i] = e.x[i * e.mp + j];
  double* u = ws.get(kHessian, e.mp * e.mp);
  double* panel = ws.get(kPanel, kBlock * std::max(e.np, e.mp));
  if (!e.is_factored) {
    std::copy(e.prior, e.prior + e.mp * e.mp, u);
    if (!cholesky(u, e.mp, panel)) return false;
  }
  solve_transposed_many(u, e.mp, z, e.np, panel);
  add_gram(gram, e.np, z, e.mp, nullptr, panel);
  return true;
}

// Row numbers and values of the sparse rows column by column: ws.column_start [m + 1], ws.column_row and `value`.
// Returns how many pairs of entries there are in the same column.
inline int64_t sort_by_column(const Entity& e, Workspace& ws, double* value) {
  ws.column_start.assign(static_cast<size_t>(e.m + 2), 0);
  ws.column_row.resize(static_cast<size_t>(e.nonzeros));
  int64_t *begin = ws.column_start.data(), pairs = 0;
  for (int64_t k = 0; k < e.nonzeros; ++k) ++begin[e.sparse_column[k] + 2];
  for (int64_t j = 2; j < e.m + 2; ++j) {
    pairs += begin[j] * (begin[j] + 1) / 2;
    begin[j] += begin[j - 1];
  }
  for (int64_t i = 0; i < e.n; ++i) {
    for (int64_t k = e.sparse_start[i]; k < e.sparse_start[i + 1]; ++k) {
      const int64_t to = begin[e.sparse_column[k] + 1]++;   // and so the next column's start ends where it should
      ws.column_row[static_cast<size_t>(to)] = static_cast<int32_t>(i);
      value[to] = e.sparse_value[k];
    }
  }
  return pairs;
}

// The same of a diagonal prior. P^-1 is left in kPs.
inline bool gram_of_diagonal(const Entity& e, Workspace& ws, double* gram) {
  double* inverse = ws.get(kPs, e.mp);
  bool positive = true;
  for (int64_t j = 0; j < e.mp; ++j) positive &= e.prior[j] > 0.0;
  if (!positive) return false;
  for (int64_t j = 0; j < e.mp; ++j) inverse[j] = 1.0 / e.prior[j];
  if (e.nonzeros > 0) {
    // Counted as multiplications in a tile, measured: a column costs 240, an entry 72 and a pair of entries 48.
    const int64_t by_tiles = e.np * e.np / 2 * e.m, by_entries = 240 * e.m + 72 * e.nonzeros;
    double* value = ws.get(kT1, std::max(e.nonzeros, e.np));
    if (by_entries < by_tiles && by_entries + 48 * sort_by_column(e, ws, value) < by_tiles) {
      const int64_t* begin = ws.column_start.data();
      const int32_t* row = ws.column_row.data();
      for (int64_t j = 0; j < e.m; ++j) {
        for (int64_t a = begin[j]; a < begin[j + 1]; ++a) {
          const double scaled = value[a] * inverse[j];
          double* line = gram + row[a] * e.np;
          line[row[a]] += scaled * value[a];
          for (int64_t b = a + 1; b < begin[j + 1]; ++b)   // a row may name a column twice
            line[row[b]] += (row[b] == row[a] ? 2.0 : 1.0) * scaled * value[b];
        }
      }
      for (int64_t i = 0; i < e.np; ++i)
        for (int64_t j = i / kBlock * kBlock; j < i; ++j) gram[i * e.np + j] = gram[j * e.np + i];
      return true;
    }
  }
  double* z = ws.get(kXt, e.mp * e.np);   // X'
  std::fill(z, z + e.mp * e.np, 0.0);
  if (e.x) {
    for (int64_t i = 0; i < e.n; ++i)
      for (int64_t j = 0; j < e.m; ++j) z[j * e.np + i] = e.x[i * e.mp + j];
  } else {
    for (int64_t i = 0; i < e.n; ++i)
      for (int64_t k = e.sparse_start[i]; k < e.sparse_start[i + 1]; ++k)
        z[e.sparse_column[k] * e.np + i] += e.sparse_value[k];
  }
  add_gram(gram, e.np, z, e.mp, inverse, ws.get(kPanel, kBlock * std::max(e.np, e.mp)));
  return true;
}

// u <- P^-1 X' a.
inline void whiten_back(const Entity& e, Workspace& ws, const double* z, const double* a, double* u) {
  std::fill(u, u + e.mp, 0.0);
  if (e.full) {
    for (int64_t j = 0; j < e.m; ++j) u[j] = dot(z + j * e.np, a, e.np);
    return solve_upper(ws.get(kHessian, e.mp * e.mp), e.mp, u);
  }
  if (e.x) {
    for (int64_t i = 0; i < e.n; ++i) add_scaled(u, a[i], e.x + i * e.mp, e.mp);
  } else {
    for (int64_t i = 0; i < e.n; ++i)
      for (int64_t k = e.sparse_start[i]; k < e.sparse_start[i + 1]; ++k)
        u[e.sparse_column[k]] += a[i] * e.sparse_value[k];
  }
  const double* inverse = ws.get(kPs, e.mp);
  for (int64_t j = 0; j < e.mp; ++j) u[j] *= inverse[j];
}

// The Newton direction `delta` in a, and q = G delta. `root` is C^1/2 and `rest` what solve_dual calls r - a.
inline bool dual_direction(const Entity& e, Workspace& ws, const double* gram, const double* root, const double* rest,
                           double* delta, double* q) {
  if (e.n == 1) {
    std::fill(delta, delta + e.np, 0.0);
    std::fill(q, q + e.np, 0.0);
    delta[0] = rest[0] / (1.0 + root[0] * root[0] * gram[0]);
    q[0] = gram[0] * delta[0];
    return true;
  }
  double *b = ws.get(kDualB, e.np * e.np), *u = ws.get(kGradient, std::max(e.np, e.mp));
  for (int64_t i = 0; i < e.np; ++i) {
    for (int64_t j = i / kBlock * kBlock; j < e.np; j += kWidth)
      store(b + i * e.np + j, splat(root[i]) * load(gram + i * e.np + j) * load(root + j));
    b[i * e.np + i] += 1.0;
  }
  if (!cholesky(b, e.np, ws.get(kPanel, kBlock * std::max(e.np, e.mp)))) return false;
  for (int64_t i = 0; i < e.np; ++i) u[i] = rest[i] / root[i];
  solve_transposed(b, e.np, u);
  solve_upper(b, e.np, u);
  for (int64_t i = 0; i < e.np; ++i) delta[i] = root[i] * u[i];
  multiply_symmetric(gram, e.np, delta, q);
  return true;
}

// Newton in a, with b = m + P^-1 X' a, eta = o + X m + G a, G = X P^-1 X'. Needs one factor of P and then only
// n x n work. The step (I + C G)^-1 (r - a) is taken in the form C^1/2 (I + C^1/2 G C^1/2)^-1 C^-1/2 (r - a), where
// nothing cancels. Where the rows outweigh the prior by far (C G large) b = m + P^-1 X' a itself cancels, and the
// answer is kNotConverged: the primal form is for these. kNotPositiveDefinite is said of the prior alone.
inline Status solve_dual(Entity& e, Workspace& ws, double tolerance, int max_steps) {
  double *z = e.full ? ws.get(kXt, e.mp * e.np) : nullptr, *gram = ws.get(kGram, e.np * e.np);
  double *eta = ws.get(kEta, e.np), *eta_try = ws.get(kEtaTry, e.np), *r = ws.get(kResidual, e.np);
  double *a = ws.get(kA, e.np), *delta = ws.get(kDelta, e.np), *q = ws.get(kQ, e.np);
  std::fill(gram, gram + e.np * e.np, 0.0);
  if (!(e.full ? gram_of_full(e, ws, z, gram) : gram_of_diagonal(e, ws, gram))) return kNotPositiveDefinite;
  double *root = ws.get(kT1, e.np), *rest = ws.get(kT2, e.np), *u = ws.get(kGradient, std::max(e.np, e.mp));
  double* own = ws.get(kCgR, e.np);   // the diagonal of G
  for (int64_t i = 0; i < e.np; ++i) own[i] = gram[i * e.np + i];
  const auto multiply = [&](const double* v, double* out) {
    if (e.x) DenseRows::multiply(e, v, out);
    else SparseRows::multiply(e, v, out);
  };
  multiply(e.prior_mean, eta);
  for (int64_t i = 0; i < e.np; ++i) {
    eta[i] += e.o[i];
    a[i] = 0.0;
  }
  if (e.start) {   // at the optimum a is the residual
    multiply(e.start, eta_try);
    for (int64_t i = 0; i < e.np; ++i) eta_try[i] += e.o[i];
    row_terms(e, eta_try, a, e.curvature);
    multiply_symmetric(gram, e.np, a, q);
    add_scaled(eta, 1.0, q, e.np);
  }
  row_terms(e, eta, r, e.curvature);
  Status status = kNotConverged;
  int small_steps = 0;
  for (e.steps = 1; e.steps <= max_steps && status != kLearned; ++e.steps) {
    int outweighed = 0;
    for (int64_t i = 0; i < e.np; ++i) {
      outweighed |= !(e.curvature[i] * own[i] < kMostDual);
      root[i] = std::sqrt(std::max(e.curvature[i], 1e-200));   // only a direction: never divide by zero
      rest[i] = r[i] - a[i];
    }
    if (outweighed) return kNotConverged;
    if (!dual_direction(e, ws, gram, root, rest, delta, q)) return kNotConverged;
    const auto slope = [&](double t) {
      for (int64_t i = 0; i < e.np; ++i) eta_try[i] = eta[i] + t * q[i];
      row_terms(e, eta_try, r, e.curvature);
      double total = 0.0;
      for (int64_t i = 0; i < e.np; ++i) total += q[i] * (a[i] + t * delta[i] - r[i]);
      return total;
    };
    const double decrement = dot(q, rest, e.np);
    if (!std::isfinite(decrement)) return kNotConverged;
    const bool last = is_last_step(e, decrement, 0.0, tolerance, eta, q) ||
                      (decrement < tolerance && ++small_steps == kSmallSteps);
    double t = 1.0;
    if (last || e.outcome == kNormal) slope(t);
    else t = step_length(decrement, e.steps, slope);
    if (t == 0.0) return kNotConverged;
    std::swap(eta, eta_try);
    add_scaled(a, t, delta, e.np);
    if (last || e.outcome == kNormal) status = kLearned;
  }
  e.steps -= 1;
  if (status != kLearned) return status;
  whiten_back(e, ws, z, a, u);
  for (int64_t j = 0; j < e.mp; ++j) e.mean[j] = e.prior_mean[j] + u[j];
  return status;
}

// The cheapest form, by counting multiplications (a sparse one costs about as much as 24 in a tile).
inline Method choose_method(const Entity& e) {
  const double n = static_cast<double>(e.np), m = static_cast<double>(e.mp), steps = 4.5;
  const double factor_m = m * m * m / 3.0 + 60.0 * m, factor_n = n * n * n / 3.0 + 60.0 * n;
  const double primal = steps * (static_cast<double>(e.n) * m * m / (e.outcome == kNormal ? 1.0 : 1.0) + factor_m);
  const double dual = (e.full ? factor_m + m * m * n : 0.0) + n * n * m + steps * (factor_n + 4.0 * n * n);
  const double sparse = steps * 8.0 * 2.0 * 24.0 * static_cast<double>(e.nonzeros + e.m);
  if (!e.full && e.nonzeros > 0 && sparse < std::min(primal, dual)) return kConjugateGradients;
  return dual < primal ? kDual : kPrimal;
}

}  // namespace nearline::NEARLINE_ISA
