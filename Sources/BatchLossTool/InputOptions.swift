import ArgumentParser
import BatchLoss
import BatchLossCatalog

/// The inputs of an evaluation, by role.
struct InputOptions: ParsableArguments {
  @Option(help: "Predictions x.") var predictions: String?
  @Option(help: "Targets: numbers, class indices or distributions.") var targets: String?
  @Option(help: "Logits, one row a sample.") var logits: String?
  @Option(help: "Probabilities in 0…1.") var probabilities: String?
  @Option(help: "Logarithms of probabilities.") var logProbabilities: String?
  @Option(help: "Logits of the target distribution.") var targetLogits: String?
  @Option(help: "A factor for each sample.") var weights: String?
  @Option(help: "A factor for each class.") var classWeights: String?
  @Option(help: "How many frames of each utterance count.") var inputLengths: String?
  @Option(help: "How many labels each utterance has.") var targetLengths: String?
  @Option(help: "Rows that are compared with each other.") var embeddings: String?
  @Option(help: "The class of each row, any integers.") var labels: String?
  @Option(help: "One side of given pairs.") var first: String?
  @Option(help: "The other side of given pairs.") var second: String?
  @Option(help: "1 where the rows of a pair are similar, 0 where they are not.") var same: String?
  @Option(help: "The anchor of each triplet or pair.") var anchors: String?
  @Option(help: "The positive of each anchor.") var positives: String?
  @Option(help: "The negative of each anchor.") var negatives: String?
  @Option(help: "Rows that look for the key of the same row: images of clip and siglip.") var queries: String?
  @Option(help: "Rows that are looked for: texts of clip and siglip.") var keys: String?
  @Option(help: "A row for each class.") var classCenters: String?

  /// What was given.
  var references: [Role: String] {
    var result: [Role: String] = [:]
    result[.predictions] = predictions
    result[.targets] = targets
    result[.logits] = logits
    result[.probabilities] = probabilities
    result[.logProbabilities] = logProbabilities
    result[.targetLogits] = targetLogits
    result[.weights] = weights
    result[.classWeights] = classWeights
    result[.inputLengths] = inputLengths
    result[.targetLengths] = targetLengths
    result[.embeddings] = embeddings
    result[.labels] = labels
    result[.first] = first
    result[.second] = second
    result[.same] = same
    result[.anchors] = anchors
    result[.positives] = positives
    result[.negatives] = negatives
    result[.queries] = queries
    result[.keys] = keys
    result[.classCenters] = classCenters
    return result
  }
}

/// The hyper-parameters of an evaluation.
struct HyperparameterOptions: ParsableArguments {
  @Option(parsing: .unconditional, help: "Where huber turns linear.") var delta: Double?
  @Option(
    parsing: .unconditional,
    help: "The half-width of smooth-l1's quadratic part, or the sharpness of multi-similarity's negatives.")
  var beta: Double?
  @Option(parsing: .unconditional, help: "The quantile, 0 to 1.") var quantile: Double?
  @Option(parsing: .unconditional, help: "How much of each target is spread over all classes, 0 to 1.")
  var labelSmoothing: Double?
  @Option(parsing: .unconditional, help: "The label of rows that count for nothing (default -100).")
  var ignoreIndex: Int?
  @Option(parsing: .unconditional, help: "The factor on the squared log-sum-exp.") var zLoss: Double?
  @Option(parsing: .unconditional, help: "The bound c of logits capped as c·tanh(x/c).") var softCap: Double?
  @Option(parsing: .unconditional, help: "The factor on the loss of positives.") var positiveWeight: Double?
  @Option(parsing: .unconditional, help: "How strongly focal plays down what is right.") var gamma: Double?
  @Option(
    parsing: .unconditional,
    help: "The weight of positives in focal, negative for none; or the sharpness of multi-similarity's positives.")
  var alpha: Double?
  @Option(parsing: .unconditional, help: "What logits or similarities are divided by.") var temperature: Double?
  @Flag(help: "Targets are logarithms of probabilities.") var logTargets = false
  @Flag(help: "Poisson predictions are rates, not their logarithms.") var noLogInput = false
  @Flag(help: "Add Stirling's term to poisson.") var full = false
  @Option(parsing: .unconditional, help: "Added to poisson rates before their logarithm.") var epsilon: Double?
  @Option(parsing: .unconditional, help: "The class that stands for no label.") var blank: Int?
  @Flag(help: "Targets that cannot be aligned cost 0 instead of infinity.") var zeroInfinity = false
  @Flag(help: "Frames are the first axis, utterances the second.") var timeMajor = false
  @Option(parsing: .unconditional, help: "How far apart what is not similar should be.") var margin: Double?
  @Option(help: "Where triplets come from: given, batch-hard, batch-semi-hard or batch-all.") var mining: String?
  @Option(help: "The distance: euclidean, squared-euclidean or cosine.") var distance: String?
  @Flag(help: "The negative of a triplet may be measured from the positive.") var swap = false
  @Flag(help: "Softplus in place of the hinge.") var smooth = false
  @Flag(help: "The hinge of triplets squared.") var squared = false
  @Flag(help: "The hinges of pairs linear instead of squared.") var linear = false
  @Option(parsing: .unconditional, help: "The distance up to which similar pairs cost nothing; with --linear.")
  var positiveMargin: Double?
  @Option(parsing: .unconditional, help: "What similarities are multiplied by.") var scale: Double?
  @Option(parsing: .unconditional, help: "What is added to scaled similarities.") var bias: Double?
  @Option(parsing: .unconditional, help: "The similarity that tells near from far in multi-similarity.")
  var base: Double?
  @Option(parsing: .unconditional, help: "The factor on squared lengths in n-pairs.") var regularization: Double?
  @Flag(help: "Take rows as they are instead of dividing them by their length.") var noNormalization = false

  /// What was given.
  var options: LossOptions {
    var values: [OptionName: Double] = [:]
    values[.delta] = delta
    values[.beta] = beta
    values[.quantile] = quantile
    values[.labelSmoothing] = labelSmoothing
    values[.ignoreIndex] = ignoreIndex.map(Double.init)
    values[.zLoss] = zLoss
    values[.softCap] = softCap
    values[.positiveWeight] = positiveWeight
    values[.gamma] = gamma
    values[.alpha] = alpha
    values[.temperature] = temperature
    values[.logTargets] = logTargets ? 1 : nil
    values[.logInput] = noLogInput ? 0 : nil
    values[.full] = full ? 1 : nil
    values[.epsilon] = epsilon
    values[.blank] = blank.map(Double.init)
    values[.zeroInfinity] = zeroInfinity ? 1 : nil
    values[.timeMajor] = timeMajor ? 1 : nil
    values[.margin] = margin
    values[.swap] = swap ? 1 : nil
    values[.smooth] = smooth ? 1 : nil
    values[.squared] = squared ? 1 : nil
    values[.linear] = linear ? 1 : nil
    values[.positiveMargin] = positiveMargin
    values[.scale] = scale
    values[.bias] = bias
    values[.base] = base
    values[.regularization] = regularization
    values[.normalization] = noNormalization ? 0 : nil
    var words: [OptionName: String] = [:]
    words[.mining] = mining
    words[.distance] = distance
    return LossOptions(values, words: words)
  }
}

extension Reduction: ExpressibleByArgument {
  /// The name with hyphens.
  var flag: String {
    rawValue.reduce(into: "") { $0 += $1.isUppercase ? "-" + $1.lowercased() : String($1) }
  }

  public init?(argument: String) {
    guard let match = Self.allCases.first(where: { $0.flag == argument }) else { return nil }
    self = match
  }

  public static var allValueStrings: [String] { allCases.map(\.flag) }
}
