import BatchLossFormulas

/// The labels of a batch as consecutive classes, in the form that kernels compare.
struct BatchLabels<Scalar: LossScalar> {
  /// The class of each row, as a number that vectors of `Scalar` compare.
  let values: UnsafeMutablePointer<Scalar>
  /// The class of each row.
  let classes: UnsafeMutablePointer<Int32>
  /// How many rows each class has; as many as there are classes are filled.
  let sizes: UnsafeMutablePointer<Int32>
  let count: Int

  init(count: Int, _ arena: inout Arena) {
    self.count = count
    values = arena.array(of: Scalar.self, count)
    classes = arena.array(of: Int32.self, count)
    sizes = arena.array(of: Int32.self, count)
  }

  /// The largest batch whose classes are all exact as `Float`.
  static var largestCount: Int { 1 << 24 }

  static func validate(_ count: Int, rows: Int) throws(BatchLossError) {
    try requireCount(count, rows, "labels")
    guard count <= largestCount else {
      throw BatchLossError(
        .invalidShape, parameter: "labels", expected: "at most 2²⁴ labels", actual: "\(count)")
    }
  }

  /// Numbers the labels in order of appearance.
  func fill<Label: FixedWidthInteger>(_ labels: UnsafeBufferPointer<Label>) {
    var numbers: [Label: Int32] = [:]
    numbers.reserveCapacity(min(count, 4096))
    for row in 0..<count {
      let next = Int32(truncatingIfNeeded: numbers.count)
      let number = numbers[labels[row], default: next]
      if number == next {
        numbers[labels[row]] = next
        sizes[Int(next)] = 0
      }
      sizes[Int(number)] += 1
      classes[row] = number
      values[row] = Scalar(number)
    }
  }

  /// Rows of the same class, the row itself left out.
  func positives(of row: Int) -> Int { Int(sizes[Int(classes[row])]) - 1 }
  /// Rows of other classes.
  func negatives(of row: Int) -> Int { count - Int(sizes[Int(classes[row])]) }
}
