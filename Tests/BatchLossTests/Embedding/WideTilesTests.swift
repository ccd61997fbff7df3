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

  /// One of the losses on pairs of two sets.
  private enum Subject {
    case clip, sigLIP

    typealias Outcome<Scalar> = (result: SimilarityResult, losses: [Scalar], images: [Scalar], texts: [Scalar])

    /// Without gradients, and with parameters moved by some steps.
    func cost(_ images: [Double], _ texts: [Double], scaleStep: Double = 0, biasStep: Double = 0) throws -> Double {
      switch self {
      case .clip:
        return try CLIPLoss(temperature: 1 / (8 + scaleStep)).evaluate(
          images: images.matrix(columns: columns), texts: texts.matrix(columns: columns), reduction: .sum
        ).cost.sum
      case .sigLIP:
        return try SigLIPLoss(scale: scale + scaleStep, bias: bias + biasStep).evaluate(
          images: images.matrix(columns: columns), texts: texts.matrix(columns: columns), reduction: .sum
        ).cost.sum
      }
    }

    func evaluate<Scalar: LossScalar>(
      _ images: [Scalar], _ texts: [Scalar], engine: Engine = .shared
    ) throws -> Outcome<Scalar> {
      var losses = [Scalar](repeating: 9, count: rows)
      var (first, second) = (
        [Scalar](repeating: 9, count: images.count), [Scalar](repeating: 9, count: texts.count)
      )
      let result: SimilarityResult
      switch self {
      case .clip:
        result = try CLIPLoss(temperature: 0.125).evaluate(
          images: images.matrix(columns: columns), texts: texts.matrix(columns: columns), reduction: .sum,
          losses: losses.mutableSpan, imageGradient: first.mutableMatrix(columns: columns),
          textGradient: second.mutableMatrix(columns: columns), engine: engine)
      case .sigLIP:
        let loss = try SigLIPLoss(scale: scale, bias: bias)
        result = try loss.evaluate(
          images: images.matrix(columns: columns), texts: texts.matrix(columns: columns), reduction: .sum,
          losses: losses.mutableSpan, imageGradient: first.mutableMatrix(columns: columns),
          textGradient: second.mutableMatrix(columns: columns), engine: engine)
      }
      return (result, losses, first, second)
    }

    /// The loss of a row by plain loops.
    func reference(_ row: Int) -> Double {
      switch self {
      case .clip:
        func half(_ x: [Double], _ y: [Double]) -> Double {
          let logits = similarities(x, row, y).map { $0 / 0.125 }
          return log(logits.reduce(0) { $0 + exp($1 - logits[row]) })
        }
        return 0.5 * (half(images, texts) + half(texts, images))
      case .sigLIP:
        return similarities(images, row, texts).enumerated().reduce(0) { sum, pair in
          let logit = scale * pair.element + bias
          return sum + log1p(exp(pair.offset == row ? -logit : logit))
        }
      }
    }
  }

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

  private func check<Scalar: LossScalar>(_: Scalar.Type, _ subject: Subject) throws {
    let (rows, columns, tolerance) = (Self.rows, Self.columns, tolerance(Scalar.self))
    let outcome = try subject.evaluate(Self.images.map { Scalar($0) }, Self.texts.map { Scalar($0) })
    let sum = outcome.losses.reduce(0) { $0 + Double($1) }
    #expect(relativeError(sum, outcome.result.cost.sum) < 10 * tolerance.cost)
    for row in Self.picked {
      #expect(
        relativeError(Double(outcome.losses[row]), subject.reference(row)) < 10 * tolerance.cost, "row \(row)")
    }

    var samples = Samples(5)
    for isOfImages in [true, false] {
      let gradient = isOfImages ? outcome.images : outcome.texts
      var direction = [Double](repeating: 0, count: rows * columns)
      for row in Self.picked {
        for column in 0..<columns { direction[row * columns + column] = samples.number() }
      }
      let slope = try slope { step in
        let x = zip(isOfImages ? Self.images : Self.texts, direction).map { $0 + step * $1 }
        return try isOfImages ? subject.cost(x, Self.texts) : subject.cost(Self.images, x)
      }
      let actual = zip(gradient, direction).reduce(0) { $0 + Double($1.0) * $1.1 }
      let terms = zip(gradient, direction).reduce(0) { $0 + (Double($1.0) * $1.1).magnitude }
      #expect((actual - slope).magnitude < max(tolerance.gradient, 1e-6) * terms, "\(actual), not \(slope)")
    }
  }

  private func slope(_ cost: (_ step: Double) throws -> Double) rethrows -> Double {
    (try cost(1e-4) - cost(-1e-4)) / 2e-4
  }

  @Test(arguments: [Subject.clip, .sigLIP]) private func lossesAndGradients(_ subject: Subject) throws {
    try check(Float.self, subject)
    try check(Double.self, subject)
  }

  @Test(arguments: [Subject.clip, .sigLIP]) private func parameters(_ subject: Subject) throws {
    let (images, texts) = (Self.images, Self.texts)
    let result = try subject.evaluate(images.map { Float($0) }, texts.map { Float($0) }).result
    let byScale = try slope { try subject.cost(images, texts, scaleStep: $0) }
    #expect(relativeError(result.scaleGradient ?? .nan, byScale) < 1e-4)
    if subject == .sigLIP {
      let byBias = try slope { try subject.cost(images, texts, biasStep: $0) }
      #expect(relativeError(result.biasGradient ?? .nan, byBias) < 1e-4)
    }
  }

  /// Gradients have the same bits for any number of workers, nearly the same beyond the budget.
  @Test(arguments: [Subject.clip, .sigLIP]) private func workersAndBudgets(_ subject: Subject) throws {
    let (images, texts) = (Self.images.map { Float($0) }, Self.texts.map { Float($0) })
    func gradients(_ engine: Engine) throws -> [Float] {
      let outcome = try subject.evaluate(images, texts, engine: engine)
      return outcome.images + outcome.texts
    }
    let one = try gradients(engine(workers: 1))
    #expect(try gradients(engine(workers: 3)) == one)
    let small = try gradients(engine(workers: 2, budget: 1 << 20))
    let scale = one.reduce(0) { max($0, $1.magnitude) }
    #expect(zip(one, small).allSatisfy { ($0 - $1).magnitude < 1e-5 * scale })
  }
}
