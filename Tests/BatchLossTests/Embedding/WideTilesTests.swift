import BatchLoss
import Foundation
import Testing

// Batches of long rows that are many enough for the widest tiles, the last ones narrower. Losses of some rows of every
// kind of tile against plain loops in Double; gradients against central differences of the cost, along directions that
// such rows share. Tolerances: `tolerance(_:)`.

@Suite struct WideTilesTests {
  /// Ten tiles in a row, the last one narrow: wide ones are for even numbers of them.
  private static let (rows, columns) = (9 * 512 + 40, 256)
  /// Of SigLIP, so that pairs of different rows weigh as much as those of one.
  private static let (scale, bias) = (5.0, -8.0)

  /// First and last rows of tiles and of their bands.
  private static let picked = [0, 255, 256, 511, 512, 2047, 4607, 4608, rows - 1]

  private static let images = numbers(3)
  private static let texts = zip(numbers(4), images).map { Double(Float(0.5 * $0 + 0.5 * $1)) }

  /// Numbers of all rows, exact as Float, so that both formats have the same input.
  private static func numbers(_ seed: UInt64) -> [Double] {
    var samples = Samples(seed)
    return samples.numbers(rows * columns).map { Double(Float($0)) }
  }

  private typealias Cost<Scalar: LossScalar> = (
    _ images: [Scalar], _ texts: [Scalar], _ losses: inout [Scalar], _ imageGradient: inout [Scalar],
    _ textGradient: inout [Scalar]
  ) throws -> Double

  /// s of a row of one set with all rows of the other.
  private static func similarities(_ x: [Double], _ row: Int, _ y: [Double]) -> [Double] {
    func unit(_ x: [Double], _ row: Int) -> [Double] {
      let x = Array(x[row * columns..<(row + 1) * columns])
      let length = x.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return x.map { $0 / length }
    }
    let own = unit(x, row)
    return (0..<rows).map { other in zip(own, unit(y, other)).reduce(0) { $0 + $1.0 * $1.1 } }
  }

  private func check<Scalar: LossScalar>(
    _: Scalar.Type, _ name: String, cost: Cost<Scalar>, wideCost: Cost<Double>, reference: (Int) -> Double
  ) throws {
    let (rows, columns, tolerance) = (Self.rows, Self.columns, tolerance(Scalar.self))
    let (images, texts) = (Self.images.map { Scalar($0) }, Self.texts.map { Scalar($0) })
    var losses = [Scalar](repeating: 9, count: rows)
    var imageGradient = [Scalar](repeating: 9, count: rows * columns)
    var textGradient = imageGradient
    let sum = try cost(images, texts, &losses, &imageGradient, &textGradient)
    #expect(relativeError(losses.reduce(0) { $0 + Double($1) }, sum) < 10 * tolerance.cost, "\(name)")
    for row in Self.picked {
      #expect(relativeError(Double(losses[row]), reference(row)) < 10 * tolerance.cost, "\(name), row \(row)")
    }

    var samples = Samples(5)
    for isOfImages in [true, false] {
      let gradient = isOfImages ? imageGradient : textGradient
      var direction = [Double](repeating: 0, count: rows * columns)
      for row in Self.picked {
        for column in 0..<columns { direction[row * columns + column] = samples.number() }
      }
      func moved(_ step: Double) throws -> Double {
        let x = zip(isOfImages ? Self.images : Self.texts, direction).map { $0 + step * $1 }
        var (losses, first, second) = ([Double](), [Double](), [Double]())
        return try wideCost(
          isOfImages ? x : Self.images, isOfImages ? Self.texts : x, &losses, &first, &second)
      }
      let step = 1e-4
      let slope = (try moved(step) - moved(-step)) / (2 * step)
      let actual = zip(gradient, direction).reduce(0) { $0 + Double($1.0) * $1.1 }
      let terms = zip(gradient, direction).reduce(0) { $0 + (Double($1.0) * $1.1).magnitude }
      #expect(
        (actual - slope).magnitude < max(tolerance.gradient, 1e-6) * terms, "\(name): \(actual), not \(slope)")
    }
  }

  private static func clip<Scalar: LossScalar>(_: Scalar.Type) throws -> Cost<Scalar> {
    let loss = try CLIPLoss(temperature: 0.125)
    return { images, texts, losses, imageGradient, textGradient in
      guard !losses.isEmpty else {
        return try loss.evaluate(
          images: images.matrix(columns: columns), texts: texts.matrix(columns: columns), reduction: .sum
        ).cost.sum
      }
      return try loss.evaluate(
        images: images.matrix(columns: columns), texts: texts.matrix(columns: columns), reduction: .sum,
        losses: losses.mutableSpan, imageGradient: imageGradient.mutableMatrix(columns: columns),
        textGradient: textGradient.mutableMatrix(columns: columns)
      ).cost.sum
    }
  }

  private static func sigLIP<Scalar: LossScalar>(_: Scalar.Type) throws -> Cost<Scalar> {
    let loss = try SigLIPLoss(scale: scale, bias: bias)
    return { images, texts, losses, imageGradient, textGradient in
      guard !losses.isEmpty else {
        return try loss.evaluate(
          images: images.matrix(columns: columns), texts: texts.matrix(columns: columns), reduction: .sum
        ).cost.sum
      }
      return try loss.evaluate(
        images: images.matrix(columns: columns), texts: texts.matrix(columns: columns), reduction: .sum,
        losses: losses.mutableSpan, imageGradient: imageGradient.mutableMatrix(columns: columns),
        textGradient: textGradient.mutableMatrix(columns: columns)
      ).cost.sum
    }
  }

  private func clipReference(_ row: Int) -> Double {
    func half(_ x: [Double], _ y: [Double]) -> Double {
      let logits = Self.similarities(x, row, y).map { $0 / 0.125 }
      return log(logits.reduce(0) { $0 + exp($1 - logits[row]) })
    }
    return 0.5 * (half(Self.images, Self.texts) + half(Self.texts, Self.images))
  }

  private func sigLIPReference(_ row: Int) -> Double {
    Self.similarities(Self.images, row, Self.texts).enumerated().reduce(0) { sum, pair in
      let logit = Self.scale * pair.element + Self.bias
      return sum + log1p(exp(pair.offset == row ? -logit : logit))
    }
  }

  @Test func clip() throws {
    try check(
      Float.self, "float32", cost: Self.clip(Float.self), wideCost: Self.clip(Double.self), reference: clipReference
    )
    try check(
      Double.self, "float64", cost: Self.clip(Double.self), wideCost: Self.clip(Double.self),
      reference: clipReference)
  }

  @Test func sigLIP() throws {
    try check(
      Float.self, "float32", cost: Self.sigLIP(Float.self), wideCost: Self.sigLIP(Double.self),
      reference: sigLIPReference)
    try check(
      Double.self, "float64", cost: Self.sigLIP(Double.self), wideCost: Self.sigLIP(Double.self),
      reference: sigLIPReference)
  }

  @Test func parameters() throws {
    let columns = Self.columns
    func check(_ slope: Double?, _ name: String, _ cost: (Double) throws -> Double) throws {
      let step = 1e-4
      let expected = (try cost(step) - cost(-step)) / (2 * step)
      #expect(relativeError(slope ?? .nan, expected) < 1e-4, "\(name): \(slope ?? .nan), not \(expected)")
    }
    let (images, texts) = (Self.images.map { Float($0) }, Self.texts.map { Float($0) })
    var gradient = images
    func sigLIP(_ scale: Double, _ bias: Double) throws -> Double {
      try SigLIPLoss(scale: scale, bias: bias).evaluate(
        images: Self.images.matrix(columns: columns), texts: Self.texts.matrix(columns: columns)
      ).cost.value
    }
    let sums = try SigLIPLoss(scale: Self.scale, bias: Self.bias).evaluate(
      images: images.matrix(columns: columns), texts: texts.matrix(columns: columns),
      imageGradient: gradient.mutableMatrix(columns: columns))
    try check(sums.scaleGradient, "scale") { try sigLIP(Self.scale + $0, Self.bias) }
    try check(sums.biasGradient, "bias") { try sigLIP(Self.scale, Self.bias + $0) }
    let clip = try CLIPLoss(temperature: 0.125).evaluate(
      images: images.matrix(columns: columns), texts: texts.matrix(columns: columns),
      imageGradient: gradient.mutableMatrix(columns: columns))
    try check(clip.scaleGradient, "scale of CLIP") {
      try CLIPLoss(temperature: 1 / (8 + $0)).evaluate(
        images: Self.images.matrix(columns: columns), texts: Self.texts.matrix(columns: columns)
      ).cost.value
    }
  }

  /// Bits of both gradients: for any number of workers the same, beyond the budget nearly.
  @Test func workersAndBudgets() throws {
    let columns = Self.columns
    let (images, texts) = (Self.images.map { Float($0) }, Self.texts.map { Float($0) })
    func gradients(_ engine: Engine, isOfCLIP: Bool) throws -> [Float] {
      var (first, second) = (images, images)
      if isOfCLIP {
        try CLIPLoss(temperature: 0.125).evaluate(
          images: images.matrix(columns: columns), texts: texts.matrix(columns: columns),
          imageGradient: first.mutableMatrix(columns: columns),
          textGradient: second.mutableMatrix(columns: columns),
          engine: engine)
      } else {
        try SigLIPLoss(scale: Self.scale, bias: Self.bias).evaluate(
          images: images.matrix(columns: columns), texts: texts.matrix(columns: columns),
          imageGradient: first.mutableMatrix(columns: columns),
          textGradient: second.mutableMatrix(columns: columns),
          engine: engine)
      }
      return first + second
    }
    for isOfCLIP in [true, false] {
      let one = try gradients(engine(workers: 1), isOfCLIP: isOfCLIP)
      #expect(try gradients(engine(workers: 3), isOfCLIP: isOfCLIP) == one)
      let small = try gradients(engine(workers: 2, budget: 1 << 20), isOfCLIP: isOfCLIP)
      let scale = one.reduce(0) { max($0, $1.magnitude) }
      #expect(zip(one, small).allSatisfy { ($0 - $1).magnitude < 1e-5 * scale })
    }
  }
}
