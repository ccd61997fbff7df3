// What is checked: every error that an element-wise loss, the engine or a matrix can throw — its code, the
// parameter it names, what it says came — and that the outputs of the failing call hold what they held.
// Against: the documentation of each call.
// Tolerance: none.

import BatchLoss
import BatchLossTestSupport
import Testing

@Suite("Element-wise losses: errors")
struct ElementwiseErrorTests {
  // MARK: Hyper-parameters

  @Test("Hyper-parameters outside their range")
  func hyperParameters() {
    for bad in [0, -1, Double.nan, .infinity] {
      expectError(.invalidParameter, "delta", mentioning: "\(bad)") { _ = try Huber(delta: bad) }
    }
    for bad in [-0.5, Double.nan, .infinity] {
      expectError(.invalidParameter, "beta", mentioning: "\(bad)") { _ = try SmoothL1(beta: bad) }
      expectError(.invalidParameter, "epsilon") { _ = try Poisson(epsilon: bad) }
      expectError(.invalidParameter, "gamma") { _ = try SigmoidFocal(gamma: bad) }
      expectError(.invalidParameter, "positiveWeight") { _ = try BinaryCrossEntropy(positiveWeight: bad) }
      expectError(.invalidParameter, "positiveWeight") {
        _ = try BinaryCrossEntropyOfProbabilities(positiveWeight: bad)
      }
    }
    for bad in [-0.01, 1.01, Double.nan] {
      expectError(.invalidParameter, "quantile", mentioning: "\(bad)") { _ = try Quantile(quantile: bad) }
      expectError(.invalidParameter, "alpha") { _ = try SigmoidFocal(alpha: bad) }
      expectError(.invalidParameter, "labelSmoothing") { _ = try BinaryCrossEntropy(labelSmoothing: bad) }
      expectError(.invalidParameter, "labelSmoothing") {
        _ = try BinaryCrossEntropyOfProbabilities(labelSmoothing: bad)
      }
    }
  }

  @Test("Hyper-parameters at the ends of their range are fine")
  func endsOfRanges() throws {
    _ = try Quantile(quantile: 0)
    _ = try Quantile(quantile: 1)
    _ = try SmoothL1(beta: 0)
    _ = try Poisson(epsilon: 0)
    _ = try SigmoidFocal(alpha: 0, gamma: 0)
    _ = try SigmoidFocal(alpha: 1)
    _ = try BinaryCrossEntropy(positiveWeight: 0, labelSmoothing: 1)
  }

  // MARK: Calls

  /// One call with operands of the given shapes; outputs must be untouched after it throws.
  private func call(
    _ loss: some ElementwiseLoss = MeanSquaredError(), predictions: (Int, Int) = (3, 4),
    targets: (Int, Int) = (3, 4), weights: (Int, Int) = (3, 4), losses: (Int, Int) = (3, 4),
    gradient: (Int, Int) = (3, 4), denominator: Double? = nil, values: [Float]? = nil, inPlace: Bool = false
  ) throws {
    func buffer(_ shape: (Int, Int), _ values: [Float]?) -> GuardedBuffer<Float> {
      GuardedBuffer(rows: shape.0, columns: shape.1, gap: 1, values)
    }
    func filled(_ shape: (Int, Int)) -> GuardedBuffer<Float> {
      buffer(shape, Array(repeating: 0.5, count: shape.0 * shape.1))
    }
    let x = values.map { buffer(predictions, $0) } ?? filled(predictions)
    let (t, w, l, g) = (filled(targets), filled(weights), buffer(losses, nil), buffer(gradient, nil))
    let before = x.elements
    let (xs, ts, ws) = (x.readOnlyMemory, t.readOnlyMemory, w.readOnlyMemory)
    let (ls, gs, xm) = (l.memory, g.memory, x.memory)
    defer {
      #expect(l.isUntouched)
      #expect(g.isUntouched)
      #expect(haveSameBits(x.elements, before))
    }
    let predictionView = try MatrixView(unsafeElements: xs, rows: x.rows, columns: x.columns, stride: x.stride)
    let targetView = try MatrixView(unsafeElements: ts, rows: t.rows, columns: t.columns, stride: t.stride)
    let weightView = try MatrixView(unsafeElements: ws, rows: w.rows, columns: w.columns, stride: w.stride)
    let lossView = try MutableMatrixView(unsafeElements: ls, rows: l.rows, columns: l.columns, stride: l.stride)
    if inPlace {
      let view = try MutableMatrixView(unsafeElements: xm, rows: x.rows, columns: x.columns, stride: x.stride)
      try loss.evaluateInPlace(
        view, targets: targetView, weights: weightView, denominator: denominator, losses: lossView)
    } else {
      let gradientView = try MutableMatrixView(
        unsafeElements: gs, rows: g.rows, columns: g.columns, stride: g.stride)
      try loss.evaluate(
        predictionView, targets: targetView, weights: weightView, denominator: denominator, losses: lossView,
        gradient: gradientView)
    }
  }

  @Test("Shapes that do not match", arguments: [false, true])
  func shapes(_ inPlace: Bool) {
    for shape in [(2, 4), (4, 3), (3, 5), (0, 0), (12, 1)] {
      let came = "\(shape.0)×\(shape.1)"
      expectError(.invalidShape, "targets", mentioning: "3×4", came) {
        try call(targets: shape, inPlace: inPlace)
      }
      expectError(.invalidShape, "weights", mentioning: "3×4 or 3×1", came) {
        try call(weights: shape, inPlace: inPlace)
      }
      expectError(.invalidShape, "losses", mentioning: "3×4", came) {
        try call(losses: shape, inPlace: inPlace)
      }
      if !inPlace {
        expectError(.invalidShape, "gradient", mentioning: "3×4", came) { try call(gradient: shape) }
      }
    }
    expectError(.invalidShape, "weights") { try call(weights: (1, 4), inPlace: inPlace) }
  }

  @Test("Denominators that cannot divide", arguments: [0, -1, Double.nan, .infinity])
  func denominators(_ bad: Double) {
    for inPlace in [false, true] {
      expectError(.invalidParameter, "denominator", mentioning: "\(bad)") {
        try call(denominator: bad, inPlace: inPlace)
      }
    }
  }

  @Test(
    "Probabilities outside 0…1 name row and column", arguments: [-0.001, 1.001, Float.infinity, -Float.infinity])
  func probabilities(_ bad: Float) throws {
    let loss = try BinaryCrossEntropyOfProbabilities()
    for position in 0..<12 {
      var values = [Float](repeating: 0.5, count: 12)
      values[position] = bad
      values[11] = bad
      for inPlace in [false, true] {
        expectError(
          .valueOutOfRange, "predictions",
          mentioning: "\(bad) in row \(position / 4), column \(position % 4)", "0.0", "1.0"
        ) { try call(loss, values: values, inPlace: inPlace) }
      }
    }
    // The last one of a long row, after whole vectors.
    var row = [Float](repeating: 1, count: 1001)
    row[1000] = bad
    let zeros = [Float](repeating: 0, count: 1001)
    expectError(.valueOutOfRange, "predictions", mentioning: "row 0, column 1000") {
      try loss.evaluate(row.matrix(columns: 1001), targets: zeros.matrix(columns: 1001))
    }
  }

  // MARK: Engine

  @Test("Engines that cannot be")
  func engines() {
    for bad in [0, -1, 1025] {
      expectError(.invalidParameter, "workerCount", mentioning: "\(bad)") {
        _ = try Engine.Configuration(workerCount: bad)
      }
    }
    for bad in [0, -1, 1 << 19] {
      expectError(.invalidParameter, "workspaceBudget", mentioning: "\(bad)") {
        _ = try Engine.Configuration(workspaceBudget: bad)
      }
    }
  }

  @Test("Errors describe themselves in one line")
  func description() {
    let error = BatchLossError(
      .invalidShape, parameter: "targets", expected: "3×4", actual: "3×5")
    #expect("\(error)" == "targets: expected 3×4, got 3×5")
    #expect("\(error.code)" == "invalidShape")
  }
}
