import BatchLoss
import BatchLossCatalog

/// The memory of one workload: inputs that are made up, and outputs that are used again and again.
final class Batch<Scalar: LossScalar> {
  let entry: LossEntry
  private(set) var problem = LossProblem<Scalar>()
  private var memory: [UnsafeMutableBufferPointer<Scalar>] = []
  private var labelMemory: [UnsafeMutableBufferPointer<Int64>] = []
  private var originals: [(role: Role, values: UnsafeMutableBufferPointer<Scalar>)] = []

  init(
    _ workload: Workload, _ shape: Dimensions, engine: Engine, costOnly: Bool, inPlace: Bool
  ) throws {
    entry = workload.entry
    problem.options = workload.options
    problem.engine = engine
    for (index, recipe) in workload.inputs(shape).enumerated() {
      var random = Random(seed: UInt64(index + 1))
      problem.shapes[recipe.role] = recipe.shape
      if let labels = labels(recipe, &random) {
        labelMemory.append(labels)
        problem.integers[recipe.role] = UnsafeBufferPointer(labels)
        continue
      }
      let elements = allocate(recipe.rows * recipe.columns)
      fill(elements, recipe.content, &random)
      problem.matrices[recipe.role] = Rows(
        elements: UnsafeBufferPointer(elements), rows: recipe.rows, columns: recipe.columns)
      guard recipe.isDifferentiable, !costOnly else { continue }
      if inPlace {
        let copy = allocate(elements.count)
        _ = copy.update(from: elements)
        originals.append((recipe.role, copy))
        problem.gradients[recipe.role] = elements
      } else {
        let gradient = allocate(elements.count)
        gradient.update(repeating: 0)
        problem.gradients[recipe.role] = gradient
      }
    }
    if entry.sample == .pair {
      let shape = entry.lossesShape(leading: problem.shapes[entry.roles[0].role] ?? [], options: workload.options)
      let distances = allocate(shape.reduce(1, *))
      distances.update(repeating: 0)
      problem.losses = distances
    }
  }

  /// One evaluation.
  func run() throws -> LossOutcome { try entry.evaluator.evaluate(problem) }

  /// Bytes of the inputs that are kept to be put back, which an evaluation in place does not need.
  var bytesToRestore: Int { originals.reduce(0) { $0 + $1.values.count } * MemoryLayout<Scalar>.stride }

  /// Puts inputs back that an evaluation in place has replaced.
  func restore() {
    for (role, values) in originals { _ = problem.gradients[role]!.update(from: values) }
  }

  private func allocate(_ count: Int) -> UnsafeMutableBufferPointer<Scalar> {
    let bytes = max(count, 1) * MemoryLayout<Scalar>.stride
    let raw = LargeMemory.allocate(byteCount: bytes, alignment: 4096)
    let buffer = UnsafeMutableBufferPointer(
      start: raw.bindMemory(to: Scalar.self, capacity: max(count, 1)), count: count)
    memory.append(buffer)
    return buffer
  }

  /// The integers of a recipe that asks for some.
  private func labels(_ recipe: InputRecipe, _ random: inout Random) -> UnsafeMutableBufferPointer<Int64>? {
    let count = recipe.rows * recipe.columns
    switch recipe.content {
    case .labels(let range):
      let labels = UnsafeMutableBufferPointer<Int64>.allocate(capacity: max(1, count))
      for index in labels.indices {
        labels[index] = Int64(range.lowerBound) + Int64(random.next() % UInt64(range.count))
      }
      return labels
    case .classes(let classes):
      let labels = UnsafeMutableBufferPointer<Int64>.allocate(capacity: count)
      for index in labels.indices {
        labels[index] = Int64(index % classes)
        labels.swapAt(index, Int(random.next() % UInt64(index + 1)))
      }
      return labels
    default:
      return nil
    }
  }

  private func fill(
    _ elements: UnsafeMutableBufferPointer<Scalar>, _ content: InputRecipe.Content, _ random: inout Random
  ) {
    for index in 0..<elements.count {
      elements[index] =
        switch content {
        case .normal(let scale): Scalar(random.normal() * scale)
        case .uniform(let range):
          Scalar(range.lowerBound + random.uniform() * (range.upperBound - range.lowerBound))
        case .coin(let heads, let tails): Scalar(random.uniform() < 0.5 ? heads : tails)
        case .labels, .classes: 0
        }
    }
  }

  deinit {
    for buffer in memory { UnsafeMutableRawPointer(buffer.baseAddress!).deallocate() }
    labelMemory.forEach { $0.deallocate() }
  }
}

/// A small generator with the same numbers on every machine (SplitMix64, Steele, Lea and Flood 2014).
struct Random {
  private var state: UInt64

  init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

  /// Near enough to normal: four uniform numbers of variance 1/12 each.
  mutating func normal() -> Double {
    (uniform() + uniform() + uniform() + uniform() - 2) * 1.7320508075688772
  }
}
