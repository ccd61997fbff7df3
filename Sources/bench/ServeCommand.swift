import ArgumentParser
import BatchLoss
import BatchLossCatalog
import BatchLossTensorFiles
import Foundation

/// `bench serve`: one JSON request a line on standard input, one JSON answer a line on standard output, so that
/// another program can run single evaluations in turn with those of other libraries.
struct ServeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Answers requests to evaluate a loss on given files, one at a time.")

  func run() throws {
    var session: Session?
    while let line = readLine() {
      let answer: [String: Any]
      do {
        answer = try Self.answer(line, &session)
      } catch {
        answer = ["error": "\(error)"]
      }
      let data = try JSONSerialization.data(
        withJSONObject: answer, options: [.sortedKeys, .withoutEscapingSlashes])
      print(String(decoding: data, as: UTF8.self))
      fflush(nil)
    }
  }

  private static func answer(_ line: String, _ session: inout Session?) throws -> [String: Any] {
    guard let request = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
      let operation = request["op"] as? String
    else { throw UsageError("expected a JSON object with an \"op\"") }
    if operation == "load" {
      session = try Session(request)
      return ["ok": true]
    }
    if operation == "info" {
      return [
        "processor": Processor.name, "isa": try InstructionSet.current.rawValue,
        "openblas": ProductProbe.libraryDescription,
      ]
    }
    if operation == "rates" {
      let engine = Engine(configuration: try Engine.Configuration(workerCount: request["workers"] as? Int))
      let limits = try Limits(
        engine: engine, products: request["products"] as? Bool ?? true,
        footprint: request["footprint"] as? Int ?? Limits.footprint,
        repeats: max(1, request["repeats"] as? Int ?? Limits.repeats))
      let rates = ["bytes_per_second": limits.bandwidth, "flops_per_second": limits.products]
      return rates.compactMapValues { $0 }
    }
    guard let session else { throw UsageError("nothing is loaded") }
    switch operation {
    case "run": return try session.run()
    case "gradient":
      guard let path = request["path"] as? String else { throw UsageError("expected a \"path\"") }
      return ["gradients": try session.writeGradients(path)]
    case "work": return session.work()
    default: throw UsageError("'\(operation)' is no operation")
    }
  }
}

/// A loss with its inputs and outputs in memory.
private final class Session {
  private let workload: Workload?
  private let entry: LossEntry
  private let engine: Engine
  private var problem = LossProblem<Float>()
  private var memory: [UnsafeMutableRawPointer] = []

  init(_ request: [String: Any]) throws {
    // A workload's name stands for a loss with options, which those of the request complete.
    let name = request["name"] as? String ?? ""
    workload = Workload.all.first { $0.name == name }
    guard let entry = workload?.entry ?? LossCatalog[name] else {
      throw UsageError("'\(name)' is no workload and no loss")
    }
    self.entry = entry
    engine = Engine(configuration: try Engine.Configuration(workerCount: request["workers"] as? Int))
    let files = request["inputs"] as? [String: String] ?? [:]
    problem.engine = engine
    problem.options = workload?.options ?? LossOptions()
    for (name, value) in request["options"] as? [String: Any] ?? [:] {
      if name == "reduction" {
        guard let text = value as? String, let reduction = Reduction(rawValue: text) else {
          throw UsageError("'\(value)' is no reduction")
        }
        problem.reduction = reduction
      } else {
        guard let option = OptionName(rawValue: name), entry.options.contains(option) else {
          throw UsageError("'\(name)' is no option of \(entry.name)")
        }
        if let number = (value as? NSNumber)?.doubleValue {
          problem.options.values[option] = number
        } else {
          problem.options.words[option] = "\(value)"
        }
      }
    }
    for use in entry.roles {
      if let file = files[use.role.rawValue] { try load(Input(use, file, entry: entry)) }
    }
    if let shape = distancesShape {
      let distances = allocate(Float.self, shape.reduce(1, *))
      distances.initialize(repeating: 0)
      problem.losses = distances
    }
  }

  /// Copies an input, so that its file need not stay mapped and count as memory.
  private func load(_ input: Input) throws {
    let count = input.tensor.elementCount
    problem.shapes[input.role] = input.tensor.shape
    if input.isIntegral {
      let labels = allocate(Int64.self, count)
      try input.tensor.read(into: labels, from: 0)
      problem.integers[input.role] = UnsafeBufferPointer(labels)
      return
    }
    let elements = allocate(Float.self, count)
    try input.tensor.read(into: elements, from: 0)
    problem.matrices[input.role] = Rows(
      elements: UnsafeBufferPointer(elements), rows: input.rows, columns: input.columns)
    guard entry.roles.contains(where: { $0.role == input.role && $0.isDifferentiable }) else { return }
    let gradient = allocate(Float.self, count)
    gradient.initialize(repeating: 0)
    problem.gradients[input.role] = gradient
  }

  /// The shape of the matrix that a workload on distances writes in place of gradients.
  private var distancesShape: [Int]? {
    guard entry.sample == .pair, let leading = problem.shapes[entry.roles[0].role] else { return nil }
    return entry.lossesShape(leading: leading, options: problem.options)
  }

  private func allocate<Element>(_: Element.Type, _ count: Int) -> UnsafeMutableBufferPointer<Element> {
    let raw = LargeMemory.allocate(
      byteCount: max(1, count * MemoryLayout<Element>.stride), alignment: 4096)
    memory.append(raw)
    return UnsafeMutableBufferPointer(
      start: raw.bindMemory(to: Element.self, capacity: max(1, count)), count: count)
  }

  func run() throws -> [String: Any] {
    var outcome: LossOutcome?
    let seconds = try time { outcome = try entry.evaluator.evaluate(problem) }
    return ["ms": seconds * 1e3, "cost": outcome!.cost.value]
  }

  func writeGradients(_ path: String) throws -> [String: String] {
    let stem = path.hasSuffix(".npy") ? String(path.dropLast(4)) : path
    var files: [String: String] = [:]
    for (role, gradient) in problem.gradients {
      let file = "\(stem)-\(role.rawValue).npy"
      try TensorOutput.write(UnsafeBufferPointer(gradient), shape: problem.shapes[role], to: file)
      files[role.rawValue] = file
    }
    if let shape = distancesShape, let distances = problem.losses {
      let file = "\(stem)-distances.npy"
      try TensorOutput.write(UnsafeBufferPointer(distances), shape: shape, to: file)
      files["distances"] = file
    }
    return files
  }

  /// What must be moved, and computed in matrix products.
  func work() -> [String: Any] {
    let written = problem.gradients.values.reduce(problem.losses?.count ?? 0) { $0 + $1.count }
    let read = problem.matrices.values.reduce(0) { $0 + $1.elements.count }
    let leading = entry.roles.lazy.compactMap { self.problem.matrices[$0.role] }.first
    let shape = Dimensions([
      .rows: leading?.rows ?? 0, .columns: leading?.columns ?? 0,
      .classes: problem.matrices[.classCenters]?.rows ?? 0,
    ])
    return [
      "bytes": (read + written) * MemoryLayout<Float>.stride, "flops": workload?.flops(shape) ?? 0,
    ]
  }

  deinit { memory.forEach { $0.deallocate() } }
}
