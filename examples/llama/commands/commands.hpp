#pragma once

#include "../options.hpp"

namespace llama {

/// @brief Writes text through a preset.
void generate(GenerateOptions const& options);

/// @brief Teacher-forced quality of presets against the plain cache.
void score(ScoreOptions const& options);

/// @brief The Pareto front of resident bytes against KL over a preset's knobs.
void tune(TuneOptions const& options);

/// @brief Retrieval: a number hidden in a long text.
void passkey(PasskeyOptions const& options);

/// @brief Retrieval: several numbers hidden in prose.
void needles(NeedlesOptions const& options);

/// @brief Entropies of the model's heads into a file, for budgets by them.
void calibrate(CalibrateOptions const& options);

/// @brief Our attention against ggml's, and every lossless preset after a Full Reset against the
/// plain cache.
/// @return whether everything is as it should be
bool check(CheckOptions const& options);

/// @brief Decode speed at several depths.
void bench(BenchOptions const& options);

/// @brief Keys, values and queries of the model into a file; logits too if asked. @see Recording
void record(RecordOptions const& options);

/// @brief Many presets at several sizes, on several texts and tasks: results that grow cell by
/// cell, and a report.
/// @return whether it went through; false if the user stopped it
bool laboratory(LabOptions const& options);

/// @brief The rows that presets keep exact of a prompt, by lane, into a file.
void retained(RetainedOptions const& options);

}  // namespace llama
