// Routes random capsules forward and backward in three threads, for the sanitizers to watch.
// Arguments: instruction set, images, children, parents, child_dim, dim. Each array is a vector of its
// own and exactly as long as it has to be, so that an access beyond it is seen.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "native_routing.cc"

static void run(void*, int64_t count, void (*call)(void*, int64_t), void* body) {
  std::vector<std::thread> threads;
  for (int first = 0; first < 3; ++first)
    threads.emplace_back([=] {
      for (int64_t i = first; i < count; i += 3) call(body, i);
    });
  for (std::thread& thread : threads) thread.join();
}

static std::vector<float> random_numbers(int64_t count) {
  std::vector<float> numbers(count);
  for (float& number : numbers) number = std::rand() / (RAND_MAX + 1.0f) - 0.5f;
  return numbers;
}

int main(int, char** arguments) {
#ifdef __x86_64__
  const bool is_there = !std::strcmp(arguments[1], "avx512") ? __builtin_cpu_supports("avx512bw")
                        : std::strcmp(arguments[1], "avx2") || __builtin_cpu_supports("avx2");
  if (!is_there) return std::puts("no such instructions"), 0;
#endif
  int64_t n[5];
  for (int i = 0; i < 5; ++i) n[i] = std::atoll(arguments[i + 2]);
  for (int64_t iterations = 1; iterations < 5; ++iterations)
    for (int64_t options = 0; options < 4; ++options) {
      const bool all = iterations == 1 || options & 1;
      const capsnet::Sizes z{n[0], n[1], n[2], n[3], n[4], iterations, options >> 1, all};
      const capsnet::Space room(z, LANES);
      const auto u = random_numbers(n[0] * n[1] * n[3]), w = random_numbers(n[1] * n[2] * n[3] * n[4]),
                 dv = random_numbers(n[0] * n[2] * n[4]);
      std::vector<float> v(dv.size()), du(u.size()), dw(w.size(), NAN), sums(room.sums),
          forward(room.forward), backward(room.backward);
      const capsnet::Threads threads{run, nullptr};
      capsnet::INSTRUCTIONS.forward(z, threads, {u.data(), w.data(), nullptr, v.data(), nullptr,
                                                 nullptr, sums.data(), forward.data()});
      capsnet::INSTRUCTIONS.backward(z, threads, {u.data(), w.data(), dv.data(), nullptr, du.data(),
                                                  dw.data(), sums.data(), backward.data()});
      for (float number : dw)
        if (!std::isfinite(number)) return std::puts("a number is missing"), 1;
    }
  std::puts("done");
}
