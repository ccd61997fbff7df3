import BatchLoss

/// Rows of real numbers in memory that somebody else owns.
package struct Rows<Scalar: LossScalar> {
  package let elements: UnsafeBufferPointer<Scalar>
  package let rows: Int
  package let columns: Int

  package init(elements: UnsafeBufferPointer<Scalar>, rows: Int, columns: Int) {
    self.elements = elements
    self.rows = rows
    self.columns = columns
  }
}

/// The inputs and outputs of one evaluation of a batch, or of a part of its rows.
package struct LossProblem<Scalar: LossScalar> {
  package var matrices: [Role: Rows<Scalar>] = [:]
  package var integers: [Role: UnsafeBufferPointer<Int64>] = [:]
  /// The shapes of all inputs as they were given.
  package var shapes: [Role: [Int]] = [:]
  package var options = LossOptions()
  package var reduction: Reduction?
  /// The divisor of the whole batch, when this is a part of it.
  package var denominator: Double?
  /// The weighted losses: one an element for element-wise losses, one a row for others.
  package var losses: UnsafeMutableBufferPointer<Scalar>?
  /// Where the gradient by each role goes, in the role's shape.
  package var gradients: [Role: UnsafeMutableBufferPointer<Scalar>] = [:]
  package var engine = Engine.shared

  package init() {}
}

/// What an evaluation yields.
package struct LossOutcome: Sendable {
  package var cost: Cost
  /// Further numbers of the result, by name, in order.
  package var details: [(name: String, value: Double)] = []

  package init(cost: Cost, details: [(name: String, value: Double)] = []) {
    self.cost = cost
    self.details = details
  }

  /// The sum and the counts of a further part of the batch.
  package mutating func add(_ part: LossOutcome) {
    cost = Cost(sum: cost.sum + part.cost.sum, denominator: cost.denominator)
    if details.isEmpty {
      details = part.details
    } else {
      for index in details.indices { details[index].value += part.details[index].value }
    }
  }
}

// MARK: - Reading a problem

extension LossProblem {
  func matrix(_ role: Role) throws(BatchLossError) -> Rows<Scalar> {
    guard let rows = matrices[role] else { throw missing(role) }
    return rows
  }

  func labels(_ role: Role) throws(BatchLossError) -> UnsafeBufferPointer<Int64> {
    guard let labels = integers[role] else { throw missing(role) }
    return labels
  }

  /// The one of two roles that is given.
  func only(_ first: Role, _ second: Role) throws(BatchLossError) -> Role {
    let given = [first, second].filter { matrices[$0] != nil }
    guard given.count == 1 else {
      throw BatchLossError(
        .unsupportedCombination, parameter: "\(first.rawValue), \(second.rawValue)", expected: "one of the two",
        actual: given.isEmpty ? "none" : "both")
    }
    return given[0]
  }

  func missing(_ role: Role) -> BatchLossError {
    BatchLossError(.invalidShape, parameter: role.rawValue, expected: "an input", actual: "none")
  }

  /// The rows of a role as a view for the time of one call, if they are given.
  @_lifetime(borrow self)
  func view(_ role: Role) throws(BatchLossError) -> MatrixView<Scalar>? {
    guard let rows = matrices[role] else { return nil }
    let view = try MatrixView(unsafeElements: rows.elements, rows: rows.rows, columns: rows.columns)
    return _overrideLifetime(view, borrowing: self)
  }

  /// The weights of rows, if there are any.
  func span(_ role: Role) -> UnsafeBufferPointer<Scalar>? { matrices[role]?.elements }
}

extension Rows {
  /// The rows as a view for the time of one call.
  var view: MatrixView<Scalar> {
    @_lifetime(borrow self)
    get throws(BatchLossError) {
      let view = try MatrixView(unsafeElements: elements, rows: rows, columns: columns)
      return _overrideLifetime(view, borrowing: self)
    }
  }

  /// Memory of the same shape as a mutable view for the time of one call.
  @_lifetime(borrow self)
  func mutableView(
    _ memory: UnsafeMutableBufferPointer<Scalar>?
  ) throws(BatchLossError) -> MutableMatrixView<Scalar>? {
    guard let memory else { return nil }
    let view = try MutableMatrixView(unsafeElements: memory, rows: rows, columns: columns)
    return _overrideLifetime(view, borrowing: self)
  }
}
