// Draws the charts of a page, and fetches its numbers again every few seconds. It moves neither focus nor the page.
"use strict";
(() => {
  const EVERY_MS = 5000;
  const SAY_EVERY_MS = 60000;
  const HEIGHT = 230;
  const [MINUTE, HOUR, DAY] = [60, 3600, 86400];
  const TIMES = [
    ...[1, 2, 5, 10, 15, 30],
    ...[1, 2, 3, 5, 10, 15, 20, 30].map((one) => one * MINUTE),
    ...[1, 2, 3, 6, 12].map((one) => one * HOUR),
    ...[1, 2, 5, 10, 30, 90, 365].map((one) => one * DAY),
  ];
  const COUNTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10000, 100000];
  const DASHES = [[7, 4], [2, 3], [9, 3, 2, 3], [4, 4], [12, 4]];
  const main = document.querySelector("main[data-source]");
  if (main === null) return;

  const updated = document.getElementById("updated");
  const said = document.getElementById("said");
  const pause = document.getElementById("pause");
  const plots = new Map();
  let latest = null;
  let saidAt = -Infinity;
  let paused = false;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const font = () => `12px ${getComputedStyle(document.body).fontFamily}`;

  const sizeOf = (box) => ({ width: box.clientWidth, height: HEIGHT });

  function stamp(at, isTime) {
    if (at === null || at === undefined) return "–";
    return isTime ? new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ") : String(at);
  }

  // Ticks of time, UTC: the date stands below the first one, and wherever it changes.
  function timesOf(_plot, ticks, _axis, _space, step) {
    let day = "";
    return ticks.map((tick) => {
      const [date, time] = new Date(tick * 1000).toISOString().split("T");
      if (step >= DAY) return date;
      const text = time.slice(0, step < MINUTE ? 8 : 5);
      if (date === day) return text;
      day = date;
      return `${text}\n${date}`;
    });
  }

  function optionsOf(chart, box) {
    const last = chart.series.length - 1;
    const value = (_, one) => (one === null || one === undefined ? "–" : one.toFixed(chart.digits));
    const series = chart.series.map((one, i) => ({
      label: one.label,
      stroke: colour(i === last ? "--line-main" : `--line-${(i % 5) + 1}`),
      width: i === last ? 2.5 : 1.5,
      dash: i === last ? undefined : DASHES[i % DASHES.length],
      points: { show: chart.x.length < 12, size: 5 },
      value,
    }));
    const axis = { stroke: colour("--muted"), font: font(), grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--grid"), width: 1 } };
    return {
      ...sizeOf(box),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: { x: { time: chart.is_time } },
      axes: [
        { ...axis, ...(chart.is_time ? { space: 75, incrs: TIMES, values: timesOf } : { space: 40, incrs: COUNTS }) },
        { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => String(Number(tick.toPrecision(6)))) },
      ],
      series: [{ label: chart.is_time ? "UTC" : "version", value: (_, at) => stamp(at, chart.is_time) }, ...series],
      cursor: { points: { size: 6 }, drag: { x: false, y: false } },
      hooks: { draw: chart.level === null ? [] : [(plot) => drawLevel(plot, chart.level)] },
    };
  }

  function drawLevel(plot, level) {
    const y = Math.round(plot.valToPos(level, "y", true));
    const { left, top, width, height } = plot.bbox;
    if (y < top || y > top + height) return;
    plot.ctx.save();
    plot.ctx.strokeStyle = colour("--muted");
    plot.ctx.lineWidth = devicePixelRatio;
    plot.ctx.beginPath();
    plot.ctx.moveTo(left, y);
    plot.ctx.lineTo(left + width, y);
    plot.ctx.stroke();
    plot.ctx.restore();
  }

  function draw(chart) {
    const box = document.getElementById(`plot-${chart.id}`);
    if (box === null) return;
    const shape = chart.series.map((one) => one.label).join("\n");
    const known = plots.get(chart.id);
    if (chart.x.length === 0) {
      known?.plot.destroy();
      plots.delete(chart.id);
      box.dataset.empty = "Nothing to draw yet.";
      return;
    }
    delete box.dataset.empty;
    const data = [chart.x, ...chart.series.map((one) => one.values)];
    if (known !== undefined && known.shape === shape) {
      known.plot.setData(data);
      return;
    }
    known?.plot.destroy();
    const plot = new uPlot(optionsOf(chart, box), data, box);
    plots.set(chart.id, { plot, shape });
  }

  function redraw() {
    for (const { plot } of plots.values()) plot.destroy();
    plots.clear();
    latest?.charts.forEach(draw);
  }

  function cellOf(value, tag) {
    const cell = document.createElement(tag);
    if (typeof value === "string") {
      cell.textContent = value;
    } else {
      const link = document.createElement("a");
      link.href = value.href;
      link.textContent = value.text;
      cell.append(link);
    }
    return cell;
  }

  function rowOf(values) {
    const row = document.createElement("tr");
    values.forEach((value, i) => {
      const cell = cellOf(value, i === 0 ? "th" : "td");
      if (i === 0) cell.scope = "row";
      row.append(cell);
    });
    return row;
  }

  function fill(table, before) {
    const region = document.getElementById(`table-${table.id}`);
    if (region === null || JSON.stringify(table) === JSON.stringify(before)) return;
    const body = region.querySelector("tbody");
    if (body.contains(document.activeElement)) return;
    region.querySelector("caption span").textContent = table.caption;
    if (table.rows.length > 0) {
      body.replaceChildren(...table.rows.map(rowOf));
      return;
    }
    const row = rowOf([table.empty]);
    const cell = cellOf(table.empty, "td");
    cell.className = "empty";
    cell.colSpan = table.columns.length;
    row.replaceChildren(cell);
    body.replaceChildren(row);
  }

  function show(live) {
    const tables = (one) => [...one.tables, ...one.charts.map((chart) => chart.table)];
    const before = new Map(latest === null ? [] : tables(latest).map((table) => [table.id, table]));
    for (const one of live.numbers) {
      document.getElementById(`number-${one.id}`).textContent = one.text;
      const meaning = document.getElementById(`meaning-${one.id}`);
      if (meaning !== null) meaning.textContent = one.meaning;
    }
    for (const table of tables(live)) fill(table, before.get(table.id));
    latest = live;
    live.charts.forEach(draw);
    if (performance.now() - saidAt >= SAY_EVERY_MS) {
      saidAt = performance.now();
      said.textContent = live.said;
    }
  }

  async function refresh() {
    try {
      const reply = await fetch(main.dataset.source, { headers: { accept: "application/json" } });
      if (!reply.ok) throw new Error(String(reply.status));
      show(await reply.json());
      updated.parentElement.classList.remove("lost");
      updated.textContent = `Updated ${new Date().toISOString().slice(11, 19)} UTC, again every ${EVERY_MS / 1000} seconds.`;
    } catch (error) {
      updated.parentElement.classList.add("lost");
      updated.textContent = `No answer (${error.message}): these are the last numbers there were. Trying again.`;
    }
  }

  async function again() {
    if (!paused && !document.hidden) await refresh();
    setTimeout(again, EVERY_MS);
  }

  if (pause !== null) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
    });
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) refresh(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(() => {
    for (const [id, { plot }] of plots) plot.setSize(sizeOf(document.getElementById(`plot-${id}`)));
  }).observe(main);
  again();
})();
