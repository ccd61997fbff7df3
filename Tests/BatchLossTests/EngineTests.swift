// What is checked: that repeated calls allocate no scratch memory, leave none behind and make no copy of the
// batch; that every block is done once; that BATCHLOSS_ISA chooses the instruction set, and only one the processor has.
// Against: the engine's counter and the peak of resident memory.
// Tolerance: memory may grow by a small part of what a mistake would cost.
// Memory and environment belong to the process, so these tests run in processes of their own.

import BatchLoss
import BatchLossTestSupport
import Glibc
import Synchronization
import Testing

// The bodies of those tests are functions, since macros take no values that depend on a lifetime.

@Suite("Engine")
struct EngineTests {
  // MARK: Memory

  @Test("Repeated calls allocate no scratch memory", arguments: [1, 2, 7])
  func workspaces(_ workers: Int) throws {
    let engine = Engine(configuration: try .init(workerCount: workers))
    let count = 400_000
    let predictions = [Float](repeating: 0.25, count: count)
    let targets = [Float](repeating: 0.5, count: count)
    let weights = [Float](repeating: 2, count: count / 100)
    var (losses, gradient) = (targets, targets)
    func call(_ loss: some ElementwiseLoss) throws {
      try loss.evaluate(
        predictions.matrix(columns: 100), targets: targets.matrix(columns: 100),
        weights: weights.matrix(columns: 1), reduction: .meanOverActive,
        losses: losses.mutableMatrix(columns: 100), gradient: gradient.mutableMatrix(columns: 100),
        engine: engine)
    }
    // One of the compiled losses, and a recorded one that needs registers for every worker. Which worker gets a
    // block is up to the scheduler, so with several of them each may come late, but it allocates once.
    for _ in 0..<10 { try call(Huber()) }
    for _ in 0..<10 { try call(Doubled()) }
    let allocations = engine.workspaceAllocations
    for _ in 0..<100 { try call(Doubled()) }
    for _ in 0..<100 { try call(Huber()) }
    if workers == 1 { #expect(engine.workspaceAllocations == allocations) }
    #expect(engine.workspaceAllocations <= 2 * (workers + 2))
  }

  @Test("Many calls leave nothing behind")
  func leaks() async {
    await #expect(processExitsWith: .success) { try checkLeaks() }
  }

  @Test("No copy of the batch is made")
  func peak() async {
    await #expect(processExitsWith: .success) { try checkPeak() }
  }

  // MARK: Blocks

  @Test("Every block is done once, whoever calls and however often", arguments: [2, 3, 9])
  func blocks(_ workers: Int) async throws {
    let engine = Engine(configuration: try .init(workerCount: workers))
    // Callers of one engine at the same time: its team of helpers serves one of them.
    await withTaskGroup(of: Int.self) { group in
      for caller in 0..<4 {
        group.addTask {
          var wrong = 0
          for call in 0..<2000 {
            let count = (caller + call) % 7
            let done = (0..<7).map { _ in Counter() }
            engine.forEachBlock(count) { block, _ in done[block].value.add(1, ordering: .relaxed) }
            for block in 0..<7 where done[block].value.load(ordering: .relaxed) != (block < count ? 1 : 0) {
              wrong += 1
            }
          }
          return wrong
        }
      }
      for await wrong in group { #expect(wrong == 0) }
    }
  }

  @Test("A block may use the engine itself")
  func nestedBlocks() throws {
    let engine = Engine(configuration: try .init(workerCount: 3))
    let done = Counter()
    for _ in 0..<100 {
      engine.forEachBlock(5) { _, _ in
        engine.forEachBlock(4) { _, _ in done.value.add(1, ordering: .relaxed) }
      }
    }
    #expect(done.value.load(ordering: .relaxed) == 2000)
  }

  // MARK: Instruction sets

  @Test("The levels of this processor start with the baseline, in order")
  func levels() throws {
    let available = InstructionSet.available
    #expect(available == available.sorted())
    #if arch(x86_64)
      #expect(available.first == .baseline)
      #expect(!available.contains(.neon))
    #else
      #expect(available == [.neon])
    #endif
    let forced = getenv("BATCHLOSS_ISA").map { String(cString: $0) } ?? ""
    #expect(try InstructionSet.current.rawValue == (forced.isEmpty ? available.last!.rawValue : forced))
  }

  @Test("BATCHLOSS_ISA forces a level", arguments: InstructionSet.available)
  func forcedLevel(_ level: InstructionSet) async {
    await #expect(processExitsWith: .success) { [name = level.rawValue as String] in try checkLevel(name) }
  }

  @Test("BATCHLOSS_ISA must name a level that this processor has")
  func unknownLevel() async {
    await #expect(processExitsWith: .success) { try checkUnknownLevel() }
  }

  @Test("An empty BATCHLOSS_ISA is none")
  func emptyLevel() async {
    await #expect(processExitsWith: .success) {
      setenv("BATCHLOSS_ISA", "", 1)
      let current = try InstructionSet.current
      precondition(current == InstructionSet.available.last)
    }
  }
}

/// Counts from several threads.
private final class Counter: Sendable {
  let value = Atomic<Int>(0)
}

/// The peak of the resident memory of this process.
private func peakKilobytes() -> Int {
  var usage = rusage()
  getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
  return usage.ru_maxrss
}

/// Evaluates a small batch many times.
private func checkLeaks() throws {
  let elements = [Float](repeating: 0.25, count: 100)
  var gradient = elements
  let loss = try BinaryCrossEntropy()
  func call() throws {
    try loss.evaluate(
      elements.matrix(columns: 10), targets: elements.matrix(columns: 10),
      gradient: gradient.mutableMatrix(columns: 10))
  }
  for _ in 0..<1000 { try call() }
  let before = peakKilobytes()
  for _ in 0..<20_000 { try call() }
  let grown = peakKilobytes() - before
  // A lost object of 32 bytes a call would be 640 KiB.
  precondition(grown <= 256, "resident memory has grown by \(grown) KiB")
}

/// Forces a level that this processor has.
private func checkLevel(_ name: String) throws {
  setenv("BATCHLOSS_ISA", name, 1)
  let current = try InstructionSet.current
  precondition(current.rawValue == name)
  let (twos, ones) = ([Float](repeating: 2, count: 9), [Float](repeating: 1, count: 9))
  let cost = try MeanSquaredError().evaluate(twos.matrix(columns: 3), targets: ones.matrix(columns: 3))
  precondition(cost.value == 1)
}

/// Forces a level that nobody has.
private func checkUnknownLevel() throws {
  setenv("BATCHLOSS_ISA", "avx9", 1)
  let elements = [Float](repeating: 1, count: 2)
  var gradient = [Float](repeating: 7, count: 2)
  var failure: BatchLossError?
  do {
    try MeanSquaredError().evaluate(
      elements.matrix(columns: 1), targets: elements.matrix(columns: 1),
      gradient: gradient.mutableMatrix(columns: 1))
  } catch {
    failure = error
  }
  guard let failure else { fatalError("no error was thrown") }
  precondition(failure.code == .unsupportedInstructionSet)
  precondition(failure.parameter == "BATCHLOSS_ISA")
  precondition(failure.actual.contains("avx9"))
  precondition(failure.expected.contains(InstructionSet.available.last!.rawValue))
  precondition(gradient == [7, 7])
}

/// Evaluates a compiled and a recorded loss over a batch of 32 MiB.
private func checkPeak() throws {
  let (rows, columns) = (8192, 1024)
  let predictions = try Matrix<Float>(rows: rows, columns: columns, repeating: 0.25)
  var gradient = try Matrix<Float>(rows: rows, columns: columns, repeating: 0)
  let weights = [Float](repeating: 1, count: rows)
  func call(_ loss: some ElementwiseLoss) throws {
    try loss.evaluate(
      predictions.view, targets: predictions.view, weights: weights.matrix(columns: 1),
      gradient: gradient.mutableView)
  }
  try call(MeanSquaredError())
  let before = peakKilobytes()
  try call(LogCosh())
  try call(Doubled())
  let grown = peakKilobytes() - before
  precondition(grown <= 2048, "resident memory has grown by \(grown) KiB")
}

/// A loss of this module, which the package knows nothing of.
private struct Doubled: ElementwiseLoss {
  func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    (2 * (prediction - target).magnitude, 2 * (prediction - target).sign)
  }
}
