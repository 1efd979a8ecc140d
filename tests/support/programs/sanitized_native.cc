// Routes random capsules forward and backward, or transforms random numbers, for the sanitizers to watch:
// once in three threads and once in one, which goes the other way. Both must give the same.
// Arguments: instruction set; "routing", images, children, parents, child_dim, dim; or "transform" and
// r, a, s, b, c. Each array is a vector of its own and exactly as long as it has to be, so that an access
// beyond it is seen; what is written starts as NaN, so that a missing number is.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "native_routing.cc"
#include "native_winograd.cc"

using Numbers = std::vector<float>;

static void run(void* pool, int64_t count, void (*call)(void*, int64_t), void* body) {
  const int64_t step = *static_cast<int64_t*>(pool);
  std::vector<std::thread> threads;
  for (int64_t first = 0; first < step; ++first)
    threads.emplace_back([=] {
      for (int64_t i = first; i < count; i += step) call(body, step == 1 ? count - 1 - i : i);
    });
  for (std::thread& thread : threads) thread.join();
}

static Numbers random_numbers(int64_t count) {
  Numbers numbers(count);
  for (float& number : numbers) number = std::rand() / (RAND_MAX + 1.0f) - 0.5f;
  return numbers;
}

// Whether compute(threads), all of the results, is finite and the same each time.
template <class Compute>
static bool is_sound(Compute compute) {
  Numbers results[2];
  for (int64_t i = 0; i < 2; ++i) {
    int64_t number = i ? 1 : 3;
    results[i] = compute(capsnet::Threads{run, &number});
  }
  for (float number : results[0])
    if (!std::isfinite(number)) return std::puts("a number is missing"), false;
  if (results[0] != results[1]) return std::puts("results depend on the threads"), false;
  return true;
}

static bool route(const int64_t* n, int64_t iterations, bool none_of_the_above, bool all) {
  const capsnet::routing::Sizes z{n[0], n[1], n[2], n[3], n[4], iterations, none_of_the_above, all};
  const capsnet::routing::Space room(z, LANES);
  Numbers u = random_numbers(n[0] * n[1] * n[3]), w = random_numbers(n[1] * n[2] * n[3] * n[4]),
          bias = random_numbers(n[2] * n[4]), dv = random_numbers(n[0] * n[2] * n[4]);
  return is_sound([&](const capsnet::Threads& threads) {
    Numbers v(dv.size(), NAN), du(u.size(), NAN), dw(w.size(), NAN), dbias(bias.size(), NAN),
        sums(room.sums, NAN), forward(room.forward, NAN), backward(room.backward, NAN);
    capsnet::routing::INSTRUCTIONS.forward(
        z, threads, {u.data(), w.data(), bias.data(), nullptr, v.data(), nullptr, nullptr, nullptr,
                     sums.data(), forward.data()});
    capsnet::routing::INSTRUCTIONS.backward(
        z, threads, {u.data(), w.data(), nullptr, dv.data(), nullptr, du.data(), dw.data(), dbias.data(),
                     sums.data(), backward.data()});
    for (const Numbers* more : {&du, &dw, &dbias}) v.insert(v.end(), more->begin(), more->end());
    return v;
  });
}

static bool transform(const int64_t* n, int64_t x_phases, int64_t y_phases) {
  capsnet::winograd::Transform z{n[0], n[1], n[2], n[3], n[4], x_phases, y_phases};
  Numbers rows = random_numbers(z.r * z.a), columns = random_numbers(z.s * z.b),
          x = random_numbers(z.a * z.b * z.c);
  z.rows = rows.data(), z.columns = columns.data(), z.x = x.data();
  return is_sound([&](const capsnet::Threads& threads) {
    Numbers y(z.r * z.s * z.c, NAN), space(capsnet::PARTS * z.a * z.s * capsnet::winograd::BLOCK, NAN);
    z.y = y.data(), z.space = space.data();
    capsnet::winograd::INSTRUCTIONS(z, threads);
    return y;
  });
}

int main(int, char** arguments) {
#ifdef __x86_64__
  const bool is_there = !std::strcmp(arguments[1], "avx512") ? __builtin_cpu_supports("avx512bw")
                        : std::strcmp(arguments[1], "avx2") || __builtin_cpu_supports("avx2");
  if (!is_there) return std::puts("no such instructions"), 0;
#endif
  int64_t n[5];
  for (int i = 0; i < 5; ++i) n[i] = std::atoll(arguments[i + 3]);
  if (!std::strcmp(arguments[2], "transform")) {
    for (int64_t x_phases = 1; x_phases < 4; ++x_phases)
      for (int64_t y_phases = 1; y_phases < 4; ++y_phases) {
        const bool is_divisible = n[0] % y_phases + n[2] % y_phases + n[1] % x_phases + n[3] % x_phases == 0;
        if (is_divisible && !transform(n, x_phases, y_phases)) return 1;
      }
  } else {
    for (int64_t iterations = 1; iterations < 5; ++iterations)
      for (int options = 0; options < 4; ++options)
        if (!route(n, iterations, options > 1, iterations == 1 || options & 1)) return 1;
  }
  std::puts("done");
}
