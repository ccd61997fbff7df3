import BatchLossFormulas

/// The labels of a batch as consecutive classes, in the form that kernels compare.
struct BatchLabels<Scalar: LossScalar> {
  /// The class of each row, as a number that vectors of `Scalar` compare.
  let values: UnsafeMutablePointer<Scalar>
  /// The class of each row.
  let classes: UnsafeMutablePointer<Int32>
  /// How many rows each class has; as many as there are classes are filled.
  let sizes: UnsafeMutablePointer<Int32>
  /// The rows of each class, ascending, one class after another; and where they begin.
  let members: UnsafeMutablePointer<Int32>
  let starts: UnsafeMutablePointer<Int32>
  let count: Int

  init(count: Int, _ arena: inout Arena) {
    self.count = count
    values = arena.array(of: Scalar.self, count)
    classes = arena.array(of: Int32.self, count)
    sizes = arena.array(of: Int32.self, count)
    members = arena.array(of: Int32.self, count)
    starts = arena.array(of: Int32.self, count + 1)
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
    numberClasses(labels, into: classes)
    fill()
  }

  /// Takes over labels that are numbered already.
  func fill(numbers: UnsafeBufferPointer<Int32>) {
    if let base = numbers.baseAddress { classes.update(from: base, count: count) }
    fill()
  }

  private func fill() {
    var classCount = 0
    for row in 0..<count {
      let number = Int(classes[row])
      if number == classCount {
        sizes[number] = 0
        classCount += 1
      }
      sizes[number] += 1
      values[row] = Scalar(number)
    }
    var start: Int32 = 0
    for number in 0..<classCount {
      starts[number] = start
      start += sizes[number]
    }
    for row in 0..<count {
      let number = Int(classes[row])
      members[Int(starts[number])] = Int32(truncatingIfNeeded: row)
      starts[number] += 1
    }
    for number in 0..<classCount { starts[number] -= sizes[number] }
  }

  /// How many classes there are.
  var classCount: Int {
    var count: Int32 = 0
    for row in 0..<self.count { count = max(count, classes[row] + 1) }
    return Int(count)
  }

  /// Rows of the same class, the row itself left out.
  func positives(of row: Int) -> Int { Int(sizes[Int(classes[row])]) - 1 }
  /// Rows of other classes.
  func negatives(of row: Int) -> Int { count - Int(sizes[Int(classes[row])]) }
}

/// Numbers labels in order of their appearance.
@_specialize(where Label == Int)
@_specialize(where Label == Int32)
@_specialize(where Label == Int64)
private func numberClasses<Label: FixedWidthInteger>(
  _ labels: UnsafeBufferPointer<Label>, into classes: UnsafeMutablePointer<Int32>
) {
  if let (first, last) = span(labels), last &- first < 4 * labels.count + 1024 {
    return withUnsafeTemporaryAllocation(of: Int32.self, capacity: last &- first + 1) { numbers in
      numbers.initialize(repeating: -1)
      var next: Int32 = 0
      for row in 0..<labels.count {
        let place = Int(truncatingIfNeeded: labels[row]) &- first
        if numbers[place] < 0 {
          numbers[place] = next
          next += 1
        }
        classes[row] = numbers[place]
      }
    }
  }
  var numbers: [Label: Int32] = [:]
  numbers.reserveCapacity(min(labels.count, 4096))
  for row in 0..<labels.count {
    let label = labels[row]
    let next = Int32(truncatingIfNeeded: numbers.count)
    let number = numbers[label, default: next]
    if number == next { numbers[label] = next }
    classes[row] = number
  }
}

/// The least and the greatest label, where a table over all between them can be thought of.
private func span<Label: FixedWidthInteger>(_ labels: UnsafeBufferPointer<Label>) -> (first: Int, last: Int)? {
  guard var least = labels.first else { return nil }
  var greatest = least
  for label in labels {
    least = min(least, label)
    greatest = max(greatest, label)
  }
  guard let first = Int(exactly: least), let last = Int(exactly: greatest) else { return nil }
  return last.subtractingReportingOverflow(first).overflow ? nil : (first, last)
}

extension Engine {
  /// Hands labels over as consecutive classes, so that only this depends on their type.
  func withClassNumbers<Label: FixedWidthInteger, Result, Failure: Error>(
    _ labels: UnsafeBufferPointer<Label>, _ body: (UnsafeBufferPointer<Int32>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let workspace = borrowWorkspace()
    defer { giveBack(workspace) }
    let classes = workspace.buffer(of: Int32.self, count: labels.count)
    numberClasses(labels, into: classes)
    return try body(UnsafeBufferPointer(start: classes, count: labels.count))
  }
}
