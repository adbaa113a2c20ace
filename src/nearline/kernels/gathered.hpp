// Scores of candidates whose features and beliefs lie in tables: see gathered.cpp.
#pragma once

#include <nanobind/nanobind.h>

#include "parts.hpp"
#include "problem.hpp"

namespace nearline {

// The job as compiled for the instruction set that posterior.cpp has chosen.
void run_chosen_score(const ScoreJob& job, int64_t from, int64_t to);

// Mean and, if it is wanted, variance of each candidate wanted; the first slot that cannot be used, -1 if there is none.
int64_t score_candidates(const std::vector<Part<int64_t>>& parts, const Kept& kept, const Believed& beliefs,
                         const Wanted& wanted, double* mean, double* variance);

// out_c += kept[at_c] + sum over features of coefficient * value.
void add_linear_parts(const std::vector<Part<double>>& parts, const Kept& kept, int64_t count, double* out);

void define_answers(nanobind::module_& module);
void define_gathered(nanobind::module_& module);

}  // namespace nearline
