// What is checked: every error of softmax cross-entropy — its code, the parameter it names, row and label where
// there are some — and that the outputs of the failing call hold what they held.
// Against: the documentation.
// Tolerance: none.

import BatchLoss
import BatchLossTestSupport
import Testing

@Suite("Softmax cross-entropy: errors")
struct SoftmaxErrorTests {
  @Test("Hyper-parameters outside their range")
  func hyperParameters() {
    for bad in [-0.01, 1.01, Double.nan] {
      expectError(.invalidParameter, "labelSmoothing", mentioning: "\(bad)") {
        _ = try SoftmaxCrossEntropy(labelSmoothing: bad)
      }
    }
    for bad in [Double.nan, .infinity] {
      expectError(.invalidParameter, "zLoss", mentioning: "\(bad)") { _ = try SoftmaxCrossEntropy(zLoss: bad) }
    }
    for bad in [0, -1, Double.nan, .infinity] {
      expectError(.invalidParameter, "softCap", mentioning: "\(bad)") {
        _ = try SoftmaxCrossEntropy(softCap: bad)
      }
    }
  }

  /// One call on 3 × 4 logits; outputs must be untouched after it throws.
  private func call(
    labels: [Int]? = [0, 1, 2], ignoreIndex: Int? = -100, probabilities: (Int, Int) = (3, 4), classWeights: Int = 4,
    weights: Int = 3, losses: Int = 3, gradient: (Int, Int) = (3, 4), denominator: Double? = nil,
    inPlace: Bool = false
  ) throws {
    let logits = GuardedBuffer<Float>(rows: 3, columns: 4, Array(repeating: 0.5, count: 12))
    let l = GuardedBuffer<Float>(rows: 1, columns: losses)
    let g = GuardedBuffer<Float>(rows: gradient.0, columns: gradient.1)
    let before = logits.elements
    defer {
      #expect(l.isUntouched)
      #expect(g.isUntouched)
      #expect(haveSameBits(logits.elements, before))
    }
    let ones = [Float](repeating: 1, count: 100)
    let loss = try SoftmaxCrossEntropy(ignoreIndex: ignoreIndex)
    let (xs, xm, ls, gs) = (logits.readOnlyMemory, logits.memory, l.memory, g.memory)
    let view = try MatrixView(unsafeElements: xs, rows: 3, columns: 4)
    let (c, w) = (ones.span.extracting(first: classWeights), ones.span.extracting(first: weights))
    if let labels {
      if inPlace {
        let place = try MutableMatrixView(unsafeElements: xm, rows: 3, columns: 4)
        try loss.evaluateInPlace(
          place, targets: labels.span, classWeights: c, weights: w, denominator: denominator,
          losses: ls.mutableSpan)
      } else {
        let gradientView = try MutableMatrixView(unsafeElements: gs, rows: g.rows, columns: g.columns)
        try loss.evaluate(
          view, targets: labels.span, classWeights: c, weights: w, denominator: denominator,
          losses: ls.mutableSpan, gradient: gradientView)
      }
    } else {
      let p = try MatrixView(ones.span, rows: probabilities.0, columns: probabilities.1)
      if inPlace {
        let place = try MutableMatrixView(unsafeElements: xm, rows: 3, columns: 4)
        try loss.evaluateInPlace(
          place, probabilities: p, classWeights: c, weights: w, denominator: denominator, losses: ls.mutableSpan)
      } else {
        let gradientView = try MutableMatrixView(unsafeElements: gs, rows: g.rows, columns: g.columns)
        try loss.evaluate(
          view, probabilities: p, classWeights: c, weights: w, denominator: denominator, losses: ls.mutableSpan,
          gradient: gradientView)
      }
    }
  }

  @Test("H7: labels out of range name row and label", arguments: [false, true])
  func labels(_ inPlace: Bool) {
    for bad in [-1, 4, 5, -99, -101, 255, Int.max, Int.min, 1 << 32, (1 << 32) + 1] {
      for row in 0..<3 {
        var labels = [0, -100, 3]
        labels[row] = bad
        expectError(.invalidLabel, "targets", mentioning: "row \(row)", "\(bad)", "0 to 3", "-100") {
          try call(labels: labels, inPlace: inPlace)
        }
      }
    }
    // Without an ignore index, -100 is out of range like any other.
    expectError(.invalidLabel, "targets", mentioning: "row 1", "-100") {
      try call(labels: [0, -100, 3], ignoreIndex: nil, inPlace: inPlace)
    }
    // Of two, the first is named.
    expectError(.invalidLabel, "targets", mentioning: "row 1", "9") {
      try call(labels: [0, 9, 8], inPlace: inPlace)
    }
  }

  @Test("Labels that only their type can hold")
  func wideLabels() {
    let logits = [Float](repeating: 0, count: 8)
    func check<Label: FixedWidthInteger>(_ label: Label, columns: Int = 4) {
      let labels = [Label](repeating: 0, count: 8 / columns - 1) + [label]
      expectError(.invalidLabel, "targets", mentioning: "\(label)", "row \(labels.count - 1)") {
        try SoftmaxCrossEntropy().evaluate(logits.matrix(columns: columns), targets: labels.span)
      }
    }
    check(Int8(-1))
    check(Int8.min)
    check(UInt8.max)
    check(Int16.max)
    check(UInt16(4))
    check(Int32.min)
    check(UInt32.max)
    check(Int64.max)
    check(UInt64.max)
    check(UInt.max)
    check(Int128.max)
    check(Int128(1) << 64)
    check(UInt128.max)
  }

  @Test("The ignore index is looked at before the range of labels is")
  func ignoredFirst() throws {
    let logits = [Float](repeating: 0, count: 8)
    for ignored in [255, -1, Int.max, Int.min, 4] {
      let labels = [1, ignored]
      let cost = try SoftmaxCrossEntropy(ignoreIndex: ignored).evaluate(
        logits.matrix(columns: 4), targets: labels.span)
      #expect(cost.denominator == 1)
    }
    let bytes: [UInt8] = [1, 255]
    let cost = try SoftmaxCrossEntropy(ignoreIndex: 255).evaluate(logits.matrix(columns: 4), targets: bytes.span)
    #expect(cost.denominator == 1)
    let nothing: [Float] = []
    let (all, allBytes) = ([255, 255, 255], [UInt8](repeating: 255, count: 3))
    let loss = try SoftmaxCrossEntropy(ignoreIndex: 255)
    let empty = try MatrixView(nothing.span, rows: 3, columns: 0)
    #expect(try loss.evaluate(empty, targets: all.span).denominator == 0)
    #expect(try loss.evaluate(empty, targets: allBytes.span).denominator == 0)
    // A label beyond Int is not the ignore index that ends where Int does.
    let wide: [UInt64] = [1, .max]
    expectError(.invalidLabel, "targets", mentioning: "row 1", "\(UInt64.max)") {
      try SoftmaxCrossEntropy(ignoreIndex: .max).evaluate(logits.matrix(columns: 4), targets: wide.span)
    }
  }

  @Test("Counts and shapes that do not match", arguments: [false, true])
  func shapes(_ inPlace: Bool) {
    for labels in [[], [0, 1], [0, 1, 2, 3]] {
      expectError(.invalidShape, "targets", mentioning: "3", "\(labels.count)") {
        try call(labels: labels, inPlace: inPlace)
      }
    }
    for labels in [[0, 1, 2], nil] {
      for count in [0, 3, 5] {
        expectError(.invalidShape, "classWeights", mentioning: "4", "\(count)") {
          try call(labels: labels, classWeights: count, inPlace: inPlace)
        }
      }
      for count in [0, 2, 4] {
        expectError(.invalidShape, "weights", mentioning: "3", "\(count)") {
          try call(labels: labels, weights: count, inPlace: inPlace)
        }
        expectError(.invalidShape, "losses", mentioning: "3", "\(count)") {
          try call(labels: labels, losses: count, inPlace: inPlace)
        }
      }
      if !inPlace {
        for shape in [(2, 4), (4, 3), (0, 0)] {
          expectError(.invalidShape, "gradient", mentioning: "3×4", "\(shape.0)×\(shape.1)") {
            try call(labels: labels, gradient: shape)
          }
        }
      }
      for bad in [0, -2, Double.nan, .infinity] {
        expectError(.invalidParameter, "denominator", mentioning: "\(bad)") {
          try call(labels: labels, denominator: bad, inPlace: inPlace)
        }
      }
    }
    for shape in [(2, 4), (4, 3), (3, 5)] {
      expectError(.invalidShape, "probabilities", mentioning: "3×4", "\(shape.0)×\(shape.1)") {
        try call(labels: nil, probabilities: shape, inPlace: inPlace)
      }
    }
  }
}
