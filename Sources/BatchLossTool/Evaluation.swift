import BatchLoss
import BatchLossCatalog
import BatchLossTensorFiles
import Foundation

/// One run of `batch-loss evaluate`.
struct Evaluation {
  let entry: LossEntry
  let inputs: [Input]
  let options: LossOptions
  let reduction: Reduction
  let lossesPath: String?
  let gradientsDirectory: String?
  let engine: Engine

  /// Elements of the widest input that are worked on together; larger inputs are streamed.
  private static let partSize = 16 << 20

  init(
    entry: LossEntry, references: [Role: String], options: LossOptions, reduction: Reduction?,
    lossesPath: String?, gradientsDirectory: String?, engine: Engine
  ) throws {
    self.entry = entry
    self.options = options
    self.reduction = reduction ?? entry.defaultReduction
    self.lossesPath = lossesPath
    self.gradientsDirectory = gradientsDirectory
    self.engine = engine
    let known = Dictionary(uniqueKeysWithValues: entry.roles.map { ($0.role, $0) })
    for role in references.keys where known[role] == nil {
      throw UsageError("--\(role.rawValue) is no input of \(entry.name)")
    }
    for name in options.names where !entry.options.contains(name) {
      throw UsageError("--\(name.flag) is no option of \(entry.name)")
    }
    for use in entry.roles where use.isRequired && references[use.role] == nil {
      throw UsageError("\(entry.name) needs --\(use.role.rawValue)")
    }
    inputs = try entry.roles.compactMap { use in
      try references[use.role].map { try Input(use, $0, entry: entry) }
    }
    try validateShapes()
  }

  /// The input that decides the shape of the batch: the first differentiable one.
  private var leading: Input? {
    inputs.first { input in entry.roles.contains { $0.role == input.role && $0.isDifferentiable } }
  }

  private var isRowWise: Bool { entry.isRowWise(given: inputs.map(\.role)) }

  private func validateShapes() throws {
    guard let leading else {
      let names = entry.roles.filter(\.isDifferentiable).map { "--" + $0.role.rawValue }
      throw UsageError("\(entry.name) needs \(names.joined(separator: " or "))")
    }
    for input in inputs where input.isPerRow && input.rows != leading.rows {
      throw UsageError(
        "\(input.role.rawValue): expected \(leading.rows) rows as \(leading.role.rawValue) has, got \(input.rows)")
    }
  }

  func run() throws -> Report {
    let isDouble = inputs.contains { $0.tensor.elementType == .float64 }
    return isDouble ? try run(as: Double.self) : try run(as: Float.self)
  }

  // MARK: Parts

  private func run<Scalar: LossScalar & TensorElement>(as: Scalar.Type) throws -> Report {
    let leading = leading!
    let outputs = try Outputs<Scalar>(
      lossesPath: lossesPath, gradientsDirectory: gradientsDirectory, entry: entry, inputs: inputs,
      leading: leading, isRowWise: isRowWise, options: options)
    do {
      let start = DispatchTime.now()
      let outcome = try evaluate(leading, outputs)
      let seconds = Double(DispatchTime.now().uptimeNanoseconds - start.uptimeNanoseconds) / 1e9
      try outputs.commit()
      return Report(
        loss: entry.name, rows: leading.rows, columns: leading.columns, reduction: reduction.flag,
        cost: outcome.cost, details: outcome.details, seconds: seconds,
        workers: engine.configuration.workerCount, instructionSet: try InstructionSet.current.rawValue,
        scalar: Scalar.self == Float.self ? "float32" : "float64", outputs: outputs.paths)
    } catch {
      outputs.abandon()
      throw error
    }
  }

  private func evaluate<Scalar: LossScalar & TensorElement>(
    _ leading: Input, _ outputs: Outputs<Scalar>
  ) throws -> LossOutcome {
    let readers = Dictionary(uniqueKeysWithValues: inputs.map { ($0.role, RowReader<Scalar>($0)) })
    // Readers own what they widen, and problems only point to it.
    defer { withExtendedLifetime(readers) {} }
    let widest = inputs.map(\.columns).max() ?? 1
    let rowsPerPart = isRowWise ? max(1, Self.partSize / max(1, widest)) : max(1, leading.rows)
    guard leading.rows > rowsPerPart else {
      var problem = try problem(0..<leading.rows, readers, roles: nil, outputs)
      problem.reduction = reduction
      return try entry.evaluator.evaluate(problem)
    }

    let parts = stride(from: 0, to: leading.rows, by: rowsPerPart).map {
      $0..<min($0 + rowsPerPart, leading.rows)
    }
    inputs.forEach { $0.tensor.adviseSequential() }
    let denominator = try denominator(parts, readers, columns: leading.columns)
    var outcome = LossOutcome(cost: Cost(sum: 0, denominator: denominator))
    let progress = Progress(total: leading.rows, label: entry.name)
    for part in parts {
      var problem = try problem(part, readers, roles: nil, outputs)
      // Where nothing contributes, gradients stay the zeros that new files hold.
      if denominator == 0 { problem.gradients = [:] }
      problem.reduction = .sum
      problem.denominator = denominator == 0 ? nil : denominator
      do throws(BatchLossError) {
        outcome.add(try entry.evaluator.evaluate(problem))
      } catch {
        throw UsageError("\(error), in the part that starts at row \(part.lowerBound)")
      }
      release(part)
      outputs.release(part)
      progress.advance(to: part.upperBound)
    }
    progress.finish()
    return outcome
  }

  /// The divisor of the whole batch, from labels and weights; only `.meanOverActive` reads all inputs.
  private func denominator<Scalar: LossScalar & TensorElement>(
    _ parts: [Range<Int>], _ readers: [Role: RowReader<Scalar>], columns: Int
  ) throws -> Double {
    if reduction == .sum { return 1 }
    var total = 0.0
    for part in parts {
      if reduction == .meanOverActive {
        var problem = try problem(part, readers, roles: nil, nil as Outputs<Scalar>?)
        problem.reduction = reduction
        total += try entry.evaluator.evaluate(problem).cost.denominator
      } else {
        let problem = try problem(part, readers, roles: [.weights, .classWeights], nil as Outputs<Scalar>?)
        total += try entry.evaluator.denominator(problem, rows: part.count, columns: columns, reduction: reduction)
      }
      release(part)
    }
    return total
  }

  /// The inputs of some rows, and where their outputs go; `roles` limits what is read beside labels.
  private func problem<Scalar: LossScalar & TensorElement>(
    _ part: Range<Int>, _ readers: [Role: RowReader<Scalar>], roles: Set<Role>?, _ outputs: Outputs<Scalar>?
  ) throws -> LossProblem<Scalar> {
    var problem = LossProblem<Scalar>()
    problem.options = options
    problem.engine = engine
    for input in inputs {
      problem.shapes[input.role] = input.tensor.shape
      if input.isIntegral {
        problem.integers[input.role] = try integers(input, part)
      } else if roles?.contains(input.role) ?? true {
        problem.matrices[input.role] = try readers[input.role]!.rows(input.isPerRow ? part : 0..<input.rows)
      }
    }
    if let outputs {
      problem.losses = try outputs.losses(part)
      problem.gradients = try outputs.gradients(part)
    }
    return problem
  }

  private func integers(_ input: Input, _ part: Range<Int>) throws -> UnsafeBufferPointer<Int64> {
    let range = input.isPerRow ? part : 0..<input.columns
    let buffer = integerBuffers.buffer(input.role, count: range.count)
    if range.count > 0 { try input.tensor.read(into: buffer, from: range.lowerBound) }
    return UnsafeBufferPointer(buffer)
  }

  private let integerBuffers = IntegerBuffers()

  /// Lets go of the memory behind rows that have been read.
  private func release(_ part: Range<Int>) {
    for input in inputs where input.isPerRow {
      input.tensor.adviseDone(part.lowerBound * input.columns..<part.upperBound * input.columns)
    }
  }
}

/// The integers of the current part, by role.
private final class IntegerBuffers {
  private var memory: [Role: UnsafeMutableBufferPointer<Int64>] = [:]

  func buffer(_ role: Role, count: Int) -> UnsafeMutableBufferPointer<Int64> {
    if memory[role].map({ $0.count < count }) ?? true {
      memory[role]?.deallocate()
      memory[role] = .allocate(capacity: max(count, 1))
    }
    return UnsafeMutableBufferPointer(rebasing: memory[role]![..<count])
  }

  deinit { memory.values.forEach { $0.deallocate() } }
}
