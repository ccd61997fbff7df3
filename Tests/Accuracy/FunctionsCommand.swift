import ArgumentParser
import BatchLoss
import BatchLossKernelInterface
import BatchLossTestSupport
import Dispatch
import Foundation
import Synchronization

/// Measures the elementary functions: over every `Float` against float64, over a sample of `Double` against
/// the x87's 80 bits. Fails when one is off by more than `docs/numerics.md` states.
struct FunctionsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "functions",
    abstract: "Checks the elementary functions over every Float, and over a sample of Double.")

  @Option(help: "Check one function only.") var function: String?
  @Option(help: "Check one instruction set only.") var level: String?
  @Option(help: "Check one in so many floats.") var stride = 1
  @Option(help: "How many doubles to draw for each function.") var doubles = 20_000_000

  func run() throws {
    let functions = ElementaryFunction.allCases.filter { function == nil || $0.rawValue == function }
    let levels = InstructionSet.available.filter { level == nil || $0.rawValue == level }
    guard !functions.isEmpty else { throw ValidationError("no function is called '\(function!)'") }
    guard !levels.isEmpty else { throw ValidationError("this processor has no level '\(level!)'") }

    // Bounds are in units of the last place of the exact result.
    print(
      "| function | scalar | arguments | \(levels.map { "\($0.rawValue), ulp | at" }.joined(separator: " | ")) |")
    print("|---|---|---:|\(levels.map { _ in "---:|---:|" }.joined())")
    var isFine = true
    for function in functions {
      let single = checkFloats(function, levels, stride: max(1, stride))
      isFine = report(function, "float32", single) && isFine
      #if arch(x86_64)
        let wide = checkDoubles(function, levels, count: max(0, doubles))
        isFine = report(function, "float64", wide) && isFine
      #endif
    }
    guard isFine else { throw ExitCode.failure }
  }

  private func report<Scalar>(
    _ function: ElementaryFunction, _ scalar: String, _ errors: [WorstError<Scalar>]
  ) -> Bool {
    let cells = errors.map { worst in
      let excess = worst.ulp <= function.statedError ? "" : " (over \(function.statedError))"
      return String(format: "%.3f", worst.ulp) + excess + " | \(worst.argument)"
    }
    print("| `\(function.rawValue)` | \(scalar) | \(errors[0].points) | \(cells.joined(separator: " | ")) |")
    fflush(nil)
    return errors.allSatisfy { $0.ulp <= function.statedError }
  }
}

/// How many arguments are evaluated at a time.
private let chunk = 1 << 15

/// The largest error on each level over every `stride`-th float in the domain of the function.
func checkFloats(
  _ function: ElementaryFunction, _ levels: [InstructionSet], stride: Int
) -> [WorstError<Float>] {
  let kernels = levels.map { KernelSelection($0).table(Float.self).elementaryFunction }
  let domain = function.domain
  return inParallel(tasks: 1 << 12, levels: levels.count) { task in
    var worst = levels.map { _ in WorstError<Float>() }
    let memory = Scratch<Float, Double>(chunk)
    var pattern = task << 20
    while pattern < (task + 1) << 20 {
      var count = 0
      while count < chunk, pattern < (task + 1) << 20 {
        let x = Float(bitPattern: UInt32(pattern))
        pattern += stride
        guard x.isNaN || domain.contains(Double(x)) else { continue }
        memory.arguments[count] = x
        count += 1
      }
      for index in 0..<count { memory.exact[index] = function.exact(Double(memory.arguments[index])) }
      for (level, kernel) in kernels.enumerated() {
        kernel(function, memory.arguments, memory.results, count)
        worst[level].update(
          function, arguments: memory.arguments, exact: memory.exact, results: memory.results, count: count)
      }
    }
    return worst
  }
}

#if arch(x86_64)
  /// The largest error on each level over random doubles: half of them any bit pattern, half about where the
  /// function bends.
  func checkDoubles(
    _ function: ElementaryFunction, _ levels: [InstructionSet], count total: Int
  ) -> [WorstError<Double>] {
    let kernels = levels.map { KernelSelection($0).table(Double.self).elementaryFunction }
    let domain = function.domain
    let tasks = (total + chunk - 1) / chunk
    return inParallel(tasks: tasks, levels: levels.count) { task in
      var worst = levels.map { _ in WorstError<Double>() }
      var random = RandomSource(seed: UInt64(task))
      let memory = Scratch<Double, Float80>(chunk)
      var count = 0
      while count < chunk {
        let bits = random.next()
        let unit = Double(bits >> 11) * 0x1p-53
        let x: Double =
          switch random.next() % 8 {
          case 0, 1, 2: Double(bitPattern: bits)
          case 3: (unit - 0.5) * 2
          case 4: (unit - 0.5) * 8
          case 5: (unit - 0.5) * 100
          case 6: (unit - 0.5) * 1500
          default: 1 + (unit - 0.5) * 0x1p-6
          }
        let mirrored = domain.contains(x) ? x : -x
        guard x.isNaN || domain.contains(mirrored) else { continue }
        memory.arguments[count] = x.isNaN ? x : mirrored
        count += 1
      }
      for index in 0..<count { memory.exact[index] = function.exact(Float80(memory.arguments[index])) }
      for (level, kernel) in kernels.enumerated() {
        kernel(function, memory.arguments, memory.results, count)
        worst[level].update(
          function, arguments: memory.arguments, exact: memory.exact, results: memory.results, count: count)
      }
      return worst
    }
  }
#endif

/// Runs tasks on every processor and merges what they find.
private func inParallel<Scalar>(
  tasks: Int, levels: Int, _ body: @Sendable (Int) -> [WorstError<Scalar>]
) -> [WorstError<Scalar>] {
  let total = Mutex(Array(repeating: WorstError<Scalar>(), count: levels))
  DispatchQueue.concurrentPerform(iterations: tasks) { task in
    let found = body(task)
    total.withLock { total in
      for level in 0..<levels { total[level].merge(found[level]) }
    }
  }
  return total.withLock { $0 }
}

/// The memory of one task.
private final class Scratch<Scalar, Wide> {
  let arguments: UnsafeMutablePointer<Scalar>
  let results: UnsafeMutablePointer<Scalar>
  let exact: UnsafeMutablePointer<Wide>

  init(_ count: Int) {
    arguments = .allocate(capacity: count)
    results = .allocate(capacity: count)
    exact = .allocate(capacity: count)
  }

  deinit {
    arguments.deallocate()
    results.deallocate()
    exact.deallocate()
  }
}
