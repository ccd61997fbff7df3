import BatchLoss
import Foundation
import Testing

// Costs and gradients of PyTorch and pytorch-metric-learning in float64 (Tests/Fixtures/generate_embedding.py), on
// random rows and on handwritten digits in 16 principal components. Tolerance: 1e-10 in Double, 1e-5 (cost) and
// 1e-4 of the largest element (gradient) in Float.

@Suite struct EmbeddingFixtureTests {
  struct Fixture: Decodable {
    struct Tensor: Decodable {
      let columns: Int
      let data: [Double]
    }
    struct Case: Decodable {
      let loss: String
      let options: [String: Number]
      let inputs: [String: Tensor]
      let labels: [Int]?
      let similar: [Bool]?
      let cost: Double
      let gradients: [String: [Double]]
      let parameterGradients: [String: Double]
    }
    let cases: [Case]
  }

  /// A number or a truth value.
  struct Number: Decodable {
    let value: Double

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let flag = try? container.decode(Bool.self) {
        value = flag ? 1 : 0
      } else {
        value = try container.decode(Double.self)
      }
    }
  }

  private static let cases: [Fixture.Case] = {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    guard let data = try? Data(contentsOf: folder.appending(path: "Fixtures/embedding.json")),
      let fixture = try? JSONDecoder().decode(Fixture.self, from: data)
    else { return [] }
    return fixture.cases
  }()

  @Test func allAreThere() { #expect(Self.cases.count == 18) }

  private func check<Scalar: LossScalar>(_ fixture: Fixture.Case, _: Scalar.Type) throws {
    func input(_ role: String) throws -> [Scalar] { try #require(fixture.inputs[role]).data.map { Scalar($0) } }
    func option(_ name: String) -> Double { fixture.options[name]?.value ?? .nan }
    let roles = fixture.inputs.keys.sorted()
    let columns = fixture.inputs[roles[0]]?.columns ?? 0
    let (labels, similar) = (fixture.labels ?? [], fixture.similar ?? [])
    let x = try input(fixture.inputs["embeddings"] == nil ? roles[0] : "embeddings")
    let other = ["triplet": "positives", "info-nce": "queries", "arc-face": "classCenters"][fixture.loss]
    let second = roles.count > 1 ? try input(other ?? roles[1]) : []
    let third = fixture.loss == "triplet" ? try input("negatives") : []
    var (gx, gy, gz) = (x, second, third)
    var cost = Double.nan
    var names: [String] = ["embeddings"]
    var parameters: [String: Double] = [:]
    switch fixture.loss {
    case "triplet":
      cost = try TripletLoss(margin: option("margin"), swap: option("swap") == 1).evaluate(
        anchors: x.matrix(columns: columns), positives: second.matrix(columns: columns),
        negatives: third.matrix(columns: columns), anchorGradient: gx.mutableMatrix(columns: columns),
        positiveGradient: gy.mutableMatrix(columns: columns), negativeGradient: gz.mutableMatrix(columns: columns)
      ).cost.value
      names = ["anchors", "positives", "negatives"]
    case "cosine-embedding":
      cost = try CosineEmbeddingLoss(margin: option("margin")).evaluate(
        first: x.matrix(columns: columns), second: second.matrix(columns: columns), similar: similar.span,
        firstGradient: gx.mutableMatrix(columns: columns), secondGradient: gy.mutableMatrix(columns: columns)
      ).cost.value
      names = ["first", "second"]
    case "triplet-all", "triplet-hard":
      let mining: TripletLoss.Mining = fixture.loss == "triplet-all" ? .batchAll : .batchHard
      cost = try TripletLoss(margin: option("margin"), mining: mining).evaluate(
        x.matrix(columns: columns), labels: labels.span, gradient: gx.mutableMatrix(columns: columns)
      ).cost.value
    case "sup-con":
      cost = try SupConLoss(temperature: option("temperature")).evaluate(
        x.matrix(columns: columns), labels: labels.span, gradient: gx.mutableMatrix(columns: columns)
      ).cost.value
    case "nt-xent":
      cost = try InfoNCELoss(temperature: option("temperature")).evaluate(
        x.matrix(columns: columns), labels: labels.span, gradient: gx.mutableMatrix(columns: columns)
      ).cost.value
    case "multi-similarity":
      cost = try MultiSimilarityLoss(alpha: option("alpha"), beta: option("beta"), base: option("base")).evaluate(
        x.matrix(columns: columns), labels: labels.span, gradient: gx.mutableMatrix(columns: columns)
      ).cost.value
    case "clip":
      let result = try CLIPLoss(temperature: option("temperature")).evaluate(
        images: x.matrix(columns: columns), texts: second.matrix(columns: columns),
        imageGradient: gx.mutableMatrix(columns: columns), textGradient: gy.mutableMatrix(columns: columns))
      (cost, names) = (result.cost.value, ["images", "texts"])
      parameters = ["scale": result.scaleGradient ?? .nan]
    case "siglip":
      let result = try SigLIPLoss(scale: option("scale"), bias: option("bias")).evaluate(
        images: x.matrix(columns: columns), texts: second.matrix(columns: columns),
        imageGradient: gx.mutableMatrix(columns: columns), textGradient: gy.mutableMatrix(columns: columns))
      (cost, names) = (result.cost.value, ["images", "texts"])
      parameters = ["scale": result.scaleGradient ?? .nan, "bias": result.biasGradient ?? .nan]
    case "info-nce":
      cost = try InfoNCELoss(temperature: option("temperature")).evaluate(
        queries: second.matrix(columns: columns), keys: x.matrix(columns: columns),
        queryGradient: gy.mutableMatrix(columns: columns), keyGradient: gx.mutableMatrix(columns: columns)
      ).cost.value
      names = ["keys", "queries"]
    case "n-pairs":
      cost = try NPairsLoss().evaluate(
        anchors: x.matrix(columns: columns), positives: second.matrix(columns: columns),
        anchorGradient: gx.mutableMatrix(columns: columns), positiveGradient: gy.mutableMatrix(columns: columns)
      ).cost.value
      names = ["anchors", "positives"]
    case "arc-face":
      cost = try ArcFaceLoss(margin: option("margin"), scale: option("scale")).evaluate(
        x.matrix(columns: columns), classCenters: second.matrix(columns: columns), labels: labels.span,
        gradient: gx.mutableMatrix(columns: columns), classCenterGradient: gy.mutableMatrix(columns: columns)
      ).cost.value
      names = ["embeddings", "classCenters"]
    default: Issue.record("no such loss: \(fixture.loss)")
    }
    let limits: (cost: Double, gradient: Double) = Scalar.self == Float.self ? (1e-5, 1e-4) : (1e-10, 1e-10)
    #expect(relativeError(cost, fixture.cost) < limits.cost, "\(fixture.loss) \(Scalar.self)")
    for (name, gradient) in zip(names, [gx, gy, gz]) {
      let expected = try #require(fixture.gradients[name])
      #expect(largestError(gradient, expected) < limits.gradient, "\(fixture.loss) \(name) \(Scalar.self)")
    }
    for (name, slope) in fixture.parameterGradients {
      #expect(relativeError(parameters[name] ?? .nan, slope) < limits.gradient, "\(fixture.loss) \(name)")
    }
  }

  @Test func matchesPeersInDouble() throws {
    for fixture in Self.cases { try check(fixture, Double.self) }
  }

  @Test func matchesPeersInFloat() throws {
    for fixture in Self.cases { try check(fixture, Float.self) }
  }
}
