import BatchLoss
import BatchLossCatalog
import BatchLossTestSupport

/// A batch whose numbers are exact in `Float`, so that both scalar types and the definition see the same.
struct LossInputs {
  struct Matrix {
    let rows: Int
    let columns: Int
    let values: [Float]
    let isDifferentiable: Bool
  }

  private(set) var matrices: [(role: Role, matrix: Matrix)] = []
  private(set) var integers: [Role: [Int]] = [:]
  private(set) var shapes: [Role: [Int]] = [:]

  /// Adds real numbers.
  mutating func add(
    _ role: Role, _ rows: Int, _ columns: Int, shape: [Int]? = nil, differentiable: Bool = false,
    _ value: (Int) -> Double
  ) {
    let values = (0..<rows * columns).map { Float(value($0)) }
    matrices.append(
      (role, Matrix(rows: rows, columns: columns, values: values, isDifferentiable: differentiable)))
    shapes[role] = shape ?? [rows, columns]
  }

  /// Adds integers.
  mutating func add(_ role: Role, shape: [Int], _ values: [Int]) {
    integers[role] = values
    shapes[role] = shape
  }
}

/// The numbers of a batch as a definition takes them.
struct LossVariables {
  private let tape = Tape()
  private var rows: [Role: [[Variable]]] = [:]
  private let inputs: LossInputs

  init(_ inputs: LossInputs) {
    self.inputs = inputs
    for (role, matrix) in inputs.matrices {
      rows[role] = (0..<matrix.rows).map { row in
        matrix.values[row * matrix.columns..<(row + 1) * matrix.columns].map { tape.variable(Wide($0)) }
      }
    }
  }

  subscript(role: Role) -> [[Variable]] { rows[role]! }

  /// The plain numbers of an input.
  func values(_ role: Role) -> [[Wide]] { rows[role]!.map { $0.map(\.value) } }

  func integers(_ role: Role) -> [Int] { inputs.integers[role]! }

  func shape(_ role: Role) -> [Int] { inputs.shapes[role]! }

  /// The derivatives of `cost` by the inputs that have a gradient.
  func gradients(of cost: Variable) -> [Role: [Wide]] {
    var result: [Role: [Wide]] = [:]
    for (role, matrix) in inputs.matrices where matrix.isDifferentiable {
      result[role] = tape.derivatives(of: cost, by: rows[role]!.flatMap { $0 })
    }
    return result
  }
}

/// The largest errors of a loss.
struct LossErrors {
  /// Of the cost, relative.
  var cost = 0.0
  /// Of a component of a gradient, relative to the largest component.
  var gradient = 0.0

  mutating func merge(_ other: LossErrors) {
    cost = max(cost, other.cost)
    gradient = max(gradient, other.gradient)
  }
}

/// Evaluates a loss of the catalogue with gradients and holds it against what its definition gives.
func errors<Scalar: LossScalar>(
  of entry: LossEntry, _ options: LossOptions, _ inputs: LossInputs, cost: Wide, gradients: [Role: [Wide]],
  as: Scalar.Type
) throws -> LossErrors {
  var problem = LossProblem<Scalar>()
  problem.options = options
  problem.shapes = inputs.shapes
  var memory: [UnsafeMutableBufferPointer<Scalar>] = []
  var labels: [UnsafeMutableBufferPointer<Int64>] = []
  defer {
    memory.forEach { $0.deallocate() }
    labels.forEach { $0.deallocate() }
  }
  for (role, matrix) in inputs.matrices {
    let elements = UnsafeMutableBufferPointer<Scalar>.allocate(capacity: matrix.values.count)
    _ = elements.initialize(from: matrix.values.map { Scalar($0) })
    memory.append(elements)
    problem.matrices[role] = Rows(
      elements: UnsafeBufferPointer(elements), rows: matrix.rows, columns: matrix.columns)
    guard matrix.isDifferentiable else { continue }
    let gradient = UnsafeMutableBufferPointer<Scalar>.allocate(capacity: matrix.values.count)
    gradient.initialize(repeating: .nan)
    memory.append(gradient)
    problem.gradients[role] = gradient
  }
  for (role, values) in inputs.integers {
    let elements = UnsafeMutableBufferPointer<Int64>.allocate(capacity: values.count)
    _ = elements.initialize(from: values.map { Int64($0) })
    labels.append(elements)
    problem.integers[role] = UnsafeBufferPointer(elements)
  }
  let outcome = try entry.evaluator.evaluate(problem)
  var errors = LossErrors(cost: Double(abs(Wide(outcome.cost.value) - cost) / abs(cost)))
  for (role, truth) in gradients {
    let scale = truth.reduce(0) { max($0, abs($1)) }
    for (value, expected) in zip(problem.gradients[role]!, truth) {
      let error = Double(abs(Wide(value) - expected) / scale)
      // NaN is the worst of all errors.
      errors.gradient = error.isNaN ? .infinity : max(errors.gradient, error)
    }
  }
  return errors
}
