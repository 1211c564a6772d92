// Fetches MathJax, which is large, once a formula comes near the screen.
(() => {
  const source = new URL("tex-svg.js", document.currentScript.src).href;
  const near = new IntersectionObserver(
    (seen) => {
      if (!seen.some((entry) => entry.isIntersecting)) return;
      near.disconnect();
      const script = document.createElement("script");
      script.src = source;
      document.head.append(script);
    },
    { rootMargin: "50%" },
  );
  for (const formula of document.querySelectorAll(".math")) near.observe(formula);
})();
