// What the page knows while it is open; all that a copied address needs is in router.js.

export const page = {
  address: {},
  screen: { panels: [] },
  queries: new Map(),
  paused: false,
  /** Panels whose lists are shown in full. */
  expanded: new Set(),
  freshness: null,
  choices: null,
  /** What the server lets the page know of its settings. */
  settings: null,
  /** Records read at two times or more, for the rate. */
  samples: [],
};

/** Age of the data in seconds, records a second (null if unknown), and whether freshness is not answered now. */
export function liveFigures() {
  const { freshness, samples } = page;
  const answer = freshness.answer;
  // The database's clock, plus our own clock since its last answer: data age during an outage.
  const unheard = freshness.answeredAt && (freshness.error || freshness.waitingSince) ? Date.now() - freshness.answeredAt : 0;
  const age = answer?.as_of
    ? Math.max(0, (new Date(answer.read_at) - new Date(answer.as_of) + unheard) / 1000) : null;
  const [a, b] = [samples[0], samples.at(-1)];
  return { age, unanswered: Boolean(freshness.error), perSecond: a && b && b.at - a.at > 3000 ? (b.total - a.total) / ((b.at - a.at) / 1000) : null };
}

export function sampled(answer) {
  const total = answer.rows.reduce((sum, row) => sum + Number(row.records), 0);
  const at = new Date(answer.read_at).getTime();
  page.samples = [...page.samples.filter((one) => at - one.at < 60000 && one.total <= total && one.at < at), { at, total }];
}
