// Scores of candidates whose features and beliefs lie in tables: see gathered.cpp.
#pragma once

#include <nanobind/nanobind.h>

#include "problem.hpp"

namespace nearline {

// The job as compiled for the instruction set that posterior.cpp has chosen.
void run_chosen_score(const ScoreJob& job, int64_t from, int64_t to);

void define_gathered(nanobind::module_& module);

}  // namespace nearline
