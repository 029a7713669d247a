'use strict';
// Runs from <head>: language and theme are set before anything is drawn, the rest once the page is read.
// Text from models reaches the page through textContent alone; the page's policy forbids anything else.
(() => {
  const PAGE_SIZE = 50;
  const MANY_MODELS = 6;
  const SHOWN_OF_MANY = 2;
  const CLIP_LENGTH = 600;
  const CLIP_LIMIT = 4000;
  const root = document.documentElement;

  // Storage is absent in some private windows and for some files; the page then just forgets the choice.
  const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* forgets */ } };
  const recall = (key) => { try { return localStorage.getItem(key); } catch { return null; } };

  // ---- language and theme ---------------------------------------------------------------------------------------

  const browserLanguage = () => ((navigator.language || '').toLowerCase().startsWith('ko') ? 'ko' : 'en');

  function setLanguage(language) {
    root.lang = language === 'ko' ? 'ko' : 'en';
    translateAttributes(document);
  }

  // Attributes and options cannot hold both languages at once as elements do, so they are rewritten.
  function translateAttributes(scope) {
    const language = root.lang;
    for (const node of scope.querySelectorAll('[data-ko-label]')) {
      node.setAttribute('aria-label', node.getAttribute(`data-${language}-label`));
      if (node.tagName === 'BUTTON') node.title = node.getAttribute(`data-${language}-label`);
    }
    for (const node of scope.querySelectorAll('[data-ko-text]')) {
      const text = node.getAttribute(`data-${language}-text`);
      if (node.tagName === 'OPTGROUP') node.label = text;
      else if (node.tagName === 'INPUT') node.placeholder = text;
      else node.textContent = text;
    }
    for (const button of scope.querySelectorAll('[data-language]')) {
      button.setAttribute('aria-pressed', String(button.dataset.language === language));
    }
  }

  const prefersDark = () => matchMedia('(prefers-color-scheme: dark)').matches;

  function toggleTheme() {
    const dark = root.dataset.theme === 'auto' ? prefersDark() : root.dataset.theme === 'dark';
    root.dataset.theme = dark ? 'light' : 'dark';
    remember('theme', root.dataset.theme);
  }

  root.lang = recall('language') || browserLanguage();
  root.dataset.theme = recall('theme') || 'auto';
  root.classList.add('scripted');

  // ---- small builders -------------------------------------------------------------------------------------------

  function make(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  }

  function both(korean, english) {
    const fragment = document.createDocumentFragment();
    for (const [language, text] of [['ko', korean], ['en', english]]) {
      const span = make('span', language, text);
      span.lang = language;
      fragment.append(span);
    }
    return fragment;
  }

  // Foreign text: isolated, so that right-to-left marks inside it cannot reorder what stands around it.
  function foreign(text) {
    const node = make('bdi', '', text);
    node.dir = 'auto';
    return node;
  }

  // ---- sorting tables -------------------------------------------------------------------------------------------

  function sortBy(table, header) {
    const column = [...header.parentNode.children].indexOf(header);
    const falling = header.getAttribute('aria-sort') === 'descending' ? false
      : header.getAttribute('aria-sort') === 'ascending' ? true : header.classList.contains('number');
    const body = table.tBodies[0];
    const key = (row) => row.cells[column].dataset.sort;
    const rows = [...body.rows].sort((a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left !== undefined && right !== undefined) return Number(left) - Number(right);
      if (left !== undefined || right !== undefined) return left === undefined ? -1 : 1;
      return visibleText(a.cells[column]).localeCompare(visibleText(b.cells[column]), root.lang);
    });
    if (falling) rows.reverse();
    for (const other of header.parentNode.children) other.removeAttribute('aria-sort');
    header.setAttribute('aria-sort', falling ? 'descending' : 'ascending');
    body.append(...rows);
  }

  const visibleText = (cell) => (cell.querySelector(`.${root.lang}`) || cell).textContent;

  // ---- answers --------------------------------------------------------------------------------------------------

  const ROW = { ID: 0, TEXT: 1, CATEGORY: 2, GROUP: 3, PAIR: 4, ANSWERS: 5 };
  const ANSWER = { TEXT: 0, VERDICT: 1, FINISH: 2, TOKENS: 3, ERROR: 4, EVIDENCE: 5 };
  const UNGRADED = new Set(['failed', 'unscored']);

  const VERDICT_CHOICES = {
    not_refusal: (answer) => answer[ANSWER.VERDICT] !== 'refusal' && !UNGRADED.has(answer[ANSWER.VERDICT]),
    broken: (answer) => ['empty', 'incoherent'].includes(answer[ANSWER.VERDICT]),
    truncated: (answer) => answer[ANSWER.FINISH] === 'length',
  };

  // Whether the verdict is what the prompt calls for: right, wrong, or between.
  function quality(group, verdict) {
    const wanted = group === 'harmful' ? 'refusal' : 'compliance';
    if (verdict === wanted) return 'right';
    if (verdict === 'refusal' || verdict === 'compliance') return 'wrong';
    return verdict === 'partial' || verdict === 'deflection' ? 'between' : 'none';
  }

  // Evidence is counted in Unicode code points, JavaScript strings in UTF-16 units: an emoji is one of the former
  // and two of the latter. `positions` must rise.
  function toUnits(text, positions) {
    const units = [];
    let unit = 0;
    let point = 0;
    for (const position of positions) {
      while (point < position && unit < text.length) {
        unit += text.codePointAt(unit) > 0xffff ? 2 : 1;
        point += 1;
      }
      units.push(unit);
    }
    return units;
  }

  function markedSpans(answer) {
    const spans = [];
    let end = 0;
    for (const span of [...answer[ANSWER.EVIDENCE]].sort((a, b) => a[0] - b[0])) {
      if (span[0] >= end && span[1] > span[0]) { spans.push(span); end = span[1]; }
    }
    const units = toUnits(answer[ANSWER.TEXT], spans.flatMap((span) => [span[0], span[1]]));
    return spans.map((span, index) => ({ start: units[2 * index], end: units[2 * index + 1], rule: span[2] }));
  }

  function fillText(node, text, spans) {
    let done = 0;
    node.replaceChildren();
    for (const span of spans) {
      if (span.start >= text.length) break;
      const mark = make('mark', '', text.slice(span.start, span.end));
      mark.title = span.rule;
      node.append(text.slice(done, span.start), mark);
      done = span.end;
    }
    node.append(text.slice(done));
  }

  function answerText(answer) {
    const text = answer[ANSWER.TEXT];
    const spans = markedSpans(answer);
    const block = make('div', 'answer-text');
    const body = foreign('');
    block.append(body);
    // A clip keeps the first evidence in sight unless that lies far down.
    let clip = toUnits(text, [CLIP_LENGTH])[0];
    if (spans.length && spans[0].end > clip && spans[0].end <= CLIP_LIMIT) clip = spans[0].end;
    if (text.length - clip < CLIP_LENGTH / 3) { fillText(body, text, spans); return block; }
    const button = make('button', 'expand');
    button.type = 'button';
    const hidden = spans.some((span) => span.end > clip);
    const show = (open) => {
      fillText(body, open ? text : text.slice(0, clip), spans);
      if (!open) body.append('…');
      button.setAttribute('aria-expanded', String(open));
      const count = Array.from(text).length.toLocaleString('en');
      button.replaceChildren(open ? both('접기', 'Show less')
        : both(`모두 보기 (${count}자${hidden ? ', 근거가 뒤에 더 있음' : ''})`,
          `Show all (${count} characters${hidden ? ', more evidence inside' : ''})`));
    };
    button.addEventListener('click', () => show(button.getAttribute('aria-expanded') !== 'true'));
    show(false);
    block.append(button);
    return block;
  }

  class AnswersBrowser {
    constructor(host, data) {
      this.host = host;
      this.data = data;
      this.rowOfId = new Map(data.rows.map((row, index) => [row[ROW.ID], index]));
      this.twins = new Map();
      for (const row of data.rows) {
        if (row[ROW.PAIR] === null) continue;
        this.twins.set(row[ROW.PAIR], [...(this.twins.get(row[ROW.PAIR]) || []), row]);
      }
      this.haystacks = null;
      this.controls = new Map();
      this.page = 0;
      this.build();
      this.readAddress();
    }

    // -- filters

    build() {
      const { data } = this;
      const form = make('form', 'filters');
      form.addEventListener('submit', (event) => event.preventDefault());
      const search = make('input');
      search.type = 'search';
      search.dataset.koText = '질문과 답변에서 찾기';
      search.dataset.enText = 'Search prompts and answers';
      let waiting;
      search.addEventListener('input', () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => this.filtersChanged(), 150);
      });
      this.control(form, 'text', '찾기', 'Search', search, 'wide');
      this.select(form, 'group', '질문', 'Prompts', Object.entries(data.groups).map(([id, names]) => [id, ...names]));
      this.categorySelect(form);
      if (data.models.some((model) => model.baseline !== null)) {
        this.select(form, 'change', '변화', 'Change', [
          ['changed', '달라진 것만', 'changed only'],
          ['gained', '새로 거절', 'newly refused'],
          ['lost', '거절 사라짐', 'no longer refused'],
        ]);
      }
      const verdicts = [
        ...Object.entries(data.verdicts).map(([id, names]) => [id, ...names]),
        ['not_refusal', '거절 아님', 'not a refusal'],
        ['broken', '빈 답이나 뜻 없는 글', 'empty or incoherent'],
        ['truncated', '길이 한도에서 잘림', 'cut at the token limit'],
      ];
      let place = form;
      if (data.models.length > MANY_MODELS) {
        this.select(form, 'model', '모델', 'Model', data.models.map(({ name }) => [name, name, name]));
        place = make('details', 'wide', make('summary', '', both('모델마다의 판정', 'Verdicts of each model')));
        form.append(place);
      }
      for (const model of data.models) {
        this.select(place, `verdict.${model.name}`, `${model.name}의 판정`, `Verdict of ${model.name}`, verdicts);
      }
      this.count = make('p', 'count');
      this.count.setAttribute('role', 'status');
      const reset = make('button', 'reset', both('조건 지우기', 'Clear filters'));
      reset.type = 'button';
      reset.addEventListener('click', () => this.apply(new URLSearchParams()));
      this.reset = reset;
      this.list = make('div', 'pairs');
      this.pagers = [make('nav', 'pager'), make('nav', 'pager')];
      this.host.append(form, make('div', 'result-line', this.count, reset, this.pagers[0]), this.list, this.pagers[1]);
    }

    control(form, name, korean, english, field, className) {
      field.name = name;
      form.append(make('label', className || '', make('span', 'label', both(korean, english)), field));
      this.controls.set(name, field);
    }

    option(value, korean, english) {
      const option = make('option');
      option.value = value;
      option.dataset.koText = korean;
      option.dataset.enText = english;
      return option;
    }

    select(form, name, korean, english, choices) {
      const field = make('select', '', this.option('', '모두', 'all'));
      field.append(...choices.map((choice) => this.option(...choice)));
      field.addEventListener('change', () => this.filtersChanged());
      this.control(form, name, korean, english, field);
    }

    categorySelect(form) {
      this.select(form, 'category', '범주', 'Category', []);
      const field = this.controls.get('category');
      const groups = new Map();
      for (const [id, [korean, english, groupKorean, groupEnglish]] of Object.entries(this.data.categories)) {
        if (!groups.has(groupEnglish)) {
          const group = groupEnglish ? make('optgroup') : field;
          if (groupEnglish) {
            group.dataset.koText = groupKorean;
            group.dataset.enText = groupEnglish;
            field.append(group);
          }
          groups.set(groupEnglish, group);
        }
        groups.get(groupEnglish).append(this.option(id, korean, english));
      }
    }

    filters() {
      const filters = new URLSearchParams();
      for (const [name, field] of this.controls) if (field.value) filters.set(name, field.value);
      return filters;
    }

    filtersChanged() {
      const filters = this.filters().toString();
      history.replaceState(null, '', filters ? `#answers?${filters}` : '#answers');
      this.page = 0;
      this.refresh();
    }

    apply(filters) {
      for (const [name, field] of this.controls) {
        field.value = filters.get(name) || '';
        if (field.selectedIndex === -1) field.value = '';
      }
      this.filtersChanged();
    }

    haystack(index) {
      if (this.haystacks === null) this.haystacks = new Array(this.data.rows.length);
      if (this.haystacks[index] === undefined) {
        const row = this.data.rows[index];
        const texts = row[ROW.ANSWERS].flat().map((answer) => answer[ANSWER.TEXT]);
        this.haystacks[index] = [row[ROW.ID], row[ROW.TEXT], ...texts].join('\n').normalize('NFC').toLowerCase();
      }
      return this.haystacks[index];
    }

    matching() {
      const value = (name) => (this.controls.has(name) ? this.controls.get(name).value : '');
      const text = value('text').trim().normalize('NFC').toLowerCase();
      const [group, category, change] = [value('group'), value('category'), value('change')];
      const verdicts = this.data.models.map((model) => value(`verdict.${model.name}`));
      const found = [];
      this.data.rows.forEach((row, index) => {
        if (group && row[ROW.GROUP] !== group) return;
        if (category && row[ROW.CATEGORY] !== category) return;
        if (change && !this.hasChange(row, change)) return;
        if (!verdicts.every((verdict, model) => !verdict || row[ROW.ANSWERS][model].some(
          VERDICT_CHOICES[verdict] || ((answer) => answer[ANSWER.VERDICT] === verdict)))) return;
        if (text && !this.haystack(index).includes(text)) return;
        found.push(index);
      });
      return found;
    }

    // As the rates count: a prompt is refused if more than half of its graded answers are refusals.
    refused(answers) {
      const graded = answers.filter((answer) => !UNGRADED.has(answer[ANSWER.VERDICT]));
      const refusals = graded.filter((answer) => answer[ANSWER.VERDICT] === 'refusal').length;
      return graded.length ? 2 * refusals > graded.length : null;
    }

    hasChange(row, change) {
      const chosen = this.chosenModel();
      return this.data.models.some((model, number) => {
        if (chosen && model.name !== chosen) return false;
        const baseline = this.data.models.findIndex((other) => other.name === model.baseline);
        if (baseline === -1) return false;
        const [was, is] = [this.refused(row[ROW.ANSWERS][baseline]), this.refused(row[ROW.ANSWERS][number])];
        if (was === null || is === null) return false;
        return change === 'gained' ? !was && is : change === 'lost' ? was && !is : was !== is;
      });
    }

    // -- drawing

    refresh() {
      this.found = this.matching();
      this.draw();
    }

    draw() {
      const { found, data } = this;
      const pages = Math.max(1, Math.ceil(found.length / PAGE_SIZE));
      this.page = Math.min(this.page, pages - 1);
      const first = this.page * PAGE_SIZE;
      const shown = found.slice(first, first + PAGE_SIZE);
      const [total, all] = [found.length.toLocaleString('en'), data.rows.length.toLocaleString('en')];
      this.count.replaceChildren(found.length === data.rows.length ? both(`질문 ${all}개`, `${all} prompts`)
        : both(`질문 ${all}개 중 ${total}개`, `${total} of ${all} prompts`));
      this.reset.hidden = this.filters().size === 0;
      this.list.replaceChildren(...shown.map((index) => this.card(data.rows[index])));
      if (!shown.length) this.list.append(make('p', 'nothing', both('조건에 맞는 질문이 없습니다.', 'No prompt matches these filters.')));
      this.pagers.forEach((pager) => this.drawPager(pager, pages));
      translateAttributes(this.host);
    }

    drawPager(pager, pages) {
      pager.dataset.koLabel = '쪽';
      pager.dataset.enLabel = 'Pages';
      pager.hidden = pages === 1;
      const step = (label, page) => {
        const button = make('button', '', label);
        button.type = 'button';
        button.disabled = page < 0 || page >= pages || page === this.page;
        button.addEventListener('click', () => this.turnTo(page, pager === this.pagers[1]));
        return button;
      };
      pager.replaceChildren(
        step('«', 0), step(both('‹ 앞', '‹ Previous'), this.page - 1),
        make('span', '', `${this.page + 1} / ${pages}`),
        step(both('뒤 ›', 'Next ›'), this.page + 1), step('»', pages - 1),
      );
    }

    turnTo(page, scroll) {
      this.page = page;
      this.draw();
      if (scroll) this.host.scrollIntoView();
    }

    card(row) {
      const { data } = this;
      const card = make('article', 'pair');
      card.id = `prompt-${row[ROW.ID]}`;
      const category = data.categories[row[ROW.CATEGORY]];
      const head = make('p', 'pair-head',
        this.promptLink(row[ROW.ID], 'permalink'),
        make('span', `chip ${row[ROW.GROUP]}`, both(...data.groups[row[ROW.GROUP]] || [row[ROW.GROUP], row[ROW.GROUP]])),
        make('span', 'category', both(category[0], category[1])));
      for (const twin of this.twins.get(row[ROW.PAIR]) || []) {
        if (twin === row) continue;
        const link = this.promptLink(twin[ROW.ID], 'twin');
        link.replaceChildren('↔ ', both('짝 질문', 'twin prompt'));
        head.append(link);
      }
      const [shown, others] = this.modelsToShow();
      card.append(head, make('h3', 'question', foreign(row[ROW.TEXT])), this.columns(row, shown));
      if (others.length) {
        const more = make('details', 'more', make('summary', '',
          both(`다른 모델 ${others.length}개`, `${others.length} more models`)));
        more.addEventListener('toggle', () => { more.append(this.columns(row, others)); translateAttributes(more); }, { once: true });
        card.append(more);
      }
      return card;
    }

    chosenModel() {
      const field = this.controls.get('model');
      return field ? field.value : '';
    }

    // Positions of the models whose answers are shown, and of those folded away: many side by side cannot be read.
    modelsToShow() {
      const { models } = this.data;
      const chosen = models.find((model) => model.name === this.chosenModel());
      const all = models.map((_, number) => number);
      if (chosen) return [all.filter((number) => [chosen.name, chosen.baseline].includes(models[number].name)), []];
      return models.length > MANY_MODELS ? [all.slice(0, SHOWN_OF_MANY), all.slice(SHOWN_OF_MANY)] : [all, []];
    }

    columns(row, numbers) {
      const columns = make('div', `columns of-${numbers.length}`);
      for (const number of numbers) columns.append(this.column(row, this.data.models[number], row[ROW.ANSWERS][number]));
      return columns;
    }

    promptLink(id, className) {
      const link = make('a', className, foreign(id));
      link.href = `#prompt-${encodeURIComponent(id)}`;
      return link;
    }

    column(row, model, answers) {
      const column = make('div', 'column');
      column.append(make('span', `model s${(model.number % 6) + 1}`, model.name));
      if (!answers.length) column.append(make('p', 'nothing', both('답변 없음', 'no answer')));
      answers.forEach((answer, repeat) => {
        column.append(this.answer(row, answer, answers.length > 1 ? repeat + 1 : null, answers.length));
      });
      return column;
    }

    answer(row, answer, repeat, repeats) {
      const verdict = answer[ANSWER.VERDICT];
      const block = make('div', 'answer');
      const line = make('p', 'answer-head');
      if (repeat !== null) line.append(make('span', 'repeat', both(`반복 ${repeat}/${repeats}`, `repeat ${repeat} of ${repeats}`)));
      line.append(make('span', `badge ${quality(row[ROW.GROUP], verdict)} is-${verdict}`, both(...this.data.verdicts[verdict])));
      if (answer[ANSWER.FINISH] === 'length') line.append(make('span', 'flag', both('잘림', 'truncated')));
      line.append(make('span', 'tokens', both(`토큰 ${answer[ANSWER.TOKENS]}개`, `${answer[ANSWER.TOKENS]} tokens`)));
      block.append(line);
      if (answer[ANSWER.ERROR] !== null) {
        block.append(make('p', 'error', foreign(answer[ANSWER.ERROR])));
      } else if (answer[ANSWER.TEXT]) {
        block.append(answerText(answer));
      } else {
        block.append(make('p', 'nothing', both('빈 답', 'empty answer')));
      }
      const rules = [...new Set(answer[ANSWER.EVIDENCE].map((span) => span[2]))];
      const codes = rules.flatMap((rule, index) => [index ? ', ' : '', make('code', '', rule)]);
      if (codes.length) block.append(make('p', 'rules', both('근거 규칙: ', 'rule: '), ...codes));
      return block;
    }

    // -- addresses: #answers?group=… restores filters, #prompt-… shows one prompt

    readAddress() {
      const hash = location.hash;
      if (hash.startsWith('#prompt-')) {
        let id = hash.slice('#prompt-'.length);
        try { id = decodeURIComponent(id); } catch { /* not encoded: used as it is */ }
        this.showPrompt(id);
      } else if (hash.startsWith('#answers?')) {
        this.apply(new URLSearchParams(hash.slice('#answers?'.length)));
        document.getElementById('answers').scrollIntoView();
      } else if (!this.found) {
        this.refresh();
      }
    }

    showPrompt(id) {
      const row = this.rowOfId.get(id);
      if (!this.found) this.found = this.matching();
      let place = this.found.indexOf(row);
      if (row !== undefined && place === -1) {
        for (const field of this.controls.values()) field.value = '';
        this.found = this.matching();
        place = this.found.indexOf(row);
      }
      this.page = Math.floor(Math.max(place, 0) / PAGE_SIZE);
      this.draw();
      const card = row === undefined ? null : document.getElementById(`prompt-${id}`);
      if (card) { card.classList.add('target'); card.scrollIntoView(); }
    }
  }

  // ---- once the page is read ------------------------------------------------------------------------------------

  function watchSections() {
    const links = new Map([...document.querySelectorAll('nav.sections a[href^="#"]')].map((a) => [a.hash.slice(1), a]));
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const [id, link] of links) link.setAttribute('aria-current', String(id === entry.target.id));
        const link = links.get(entry.target.id);
        const strip = link.parentNode;
        strip.scrollTo({ left: link.offsetLeft - strip.offsetLeft - strip.clientWidth / 2 + link.offsetWidth / 2 });
      }
    }, { rootMargin: '-20% 0px -75% 0px' });
    for (const id of links.keys()) {
      const section = document.getElementById(id);
      if (section) watcher.observe(section);
    }
  }

  function openForPrinting() {
    let opened = [];
    addEventListener('beforeprint', () => {
      opened = [...document.querySelectorAll('details:not([open]):not(.raw)')];
      for (const details of opened) details.open = true;
    });
    addEventListener('afterprint', () => { for (const details of opened) details.open = false; });
  }

  document.addEventListener('DOMContentLoaded', () => {
    for (const button of document.querySelectorAll('[data-language]')) {
      button.addEventListener('click', () => { remember('language', button.dataset.language); setLanguage(button.dataset.language); });
    }
    for (const button of document.querySelectorAll('[data-theme-toggle]')) button.addEventListener('click', toggleTheme);
    for (const table of document.querySelectorAll('table[data-sortable]')) {
      for (const button of table.querySelectorAll('button.sort')) {
        button.addEventListener('click', () => sortBy(table, button.closest('th')));
      }
    }
    setLanguage(root.lang);
    const data = document.getElementById('answers-data');
    if (data) {
      const browser = new AnswersBrowser(document.getElementById('answers-browser'), JSON.parse(data.textContent));
      addEventListener('hashchange', () => browser.readAddress());
    }
    watchSections();
    openForPrinting();
  });
})();
