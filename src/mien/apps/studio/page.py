"""The page: head, five tabs, foot, and how it looks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mien.apps.studio import edit_tab, encode_tab, explore_tab, live_tab, puppet_tab
from mien.apps.studio.access_control import COOKIE
from mien.apps.studio.context import Studio

MARK = (
    '<svg viewBox="0 0 26 26" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" '
    'aria-hidden="true"><rect x="2" y="2" width="22" height="22" rx="7"/><path d="M6 15c2.2 0 2.2-6 4.4-6s2.2 8 4.4 '
    '8 2.4-5 5.2-5"/></svg>'
)


def build_page(studio: Studio) -> Any:
    """Build the Blocks of the page: head, five tabs, foot."""
    with gr.Blocks(title="mien studio", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(f'<header class="m-head"><h1>{MARK}mien</h1><p>A talking head as one identity and 35 numbers a frame.'
                "</p></header>")  # fmt: skip
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Encode", id="encode"):
                encode = encode_tab.build(studio)
            with gr.Tab("Puppeteer", id="puppet"):
                puppet = puppet_tab.build(studio)
            with gr.Tab("Edit", id="edit"):
                edit = edit_tab.build(studio)
            with gr.Tab("Live", id="live") as live_page:
                live = live_tab.build(studio)
            with gr.Tab("Explore", id="explore") as explore_page:
                explore = explore_tab.build(studio)
        gr.HTML(
            '<footer class="m-foot" style="display:block !important"><p>Nothing leaves the machine that runs this studio. '
            "What you upload lies in a folder of its own and is removed when you close the page. Renders are synthetic: "
            "show people only who agreed, and say what it is.</p></footer>"
        )
        quiet: dict[str, Any] = {"show_progress": "hidden"}
        encode["to_puppet"].click(
            lambda: (gr.Tabs(selected="puppet"), puppet_tab.MINE), None, [tabs, puppet["driver"]], **quiet
        )
        encode["to_edit"].click(lambda: gr.Tabs(selected="edit"), None, tabs, **quiet).then(
            edit["open_encoded"], None, edit["shown"], **quiet
        )
        puppet["to_edit"].click(lambda: gr.Tabs(selected="edit"), None, tabs, **quiet).then(
            edit["open_puppet"], None, edit["shown"], **quiet
        )
        page.load(puppet["fill"], None, [puppet["shelf"], puppet["driver"], puppet["motion"]], **quiet)
        live_page.select(live["load"], None, live["shelf"], **quiet)
        explore_page.select(explore["load"], None, explore["channels"], **quiet)

        def left(request: gr.Request) -> None:
            studio.sessions.leave(str(request.session_hash), request.cookies.get(COOKIE) or "")

        page.unload(left)
    page.queue(default_concurrency_limit=8, max_size=64, api_open=False)
    return page


def theme() -> Any:
    """Make the theme: paper, ink, one accent, the system's own fonts."""
    accent = gr.themes.Color("#eef5f6", "#e3eff1", "#c4dde1", "#97c3ca", "#5f9fa9", "#1d5f6b", "#195460", "#15464f",
                             "#11383f", "#0d2b30", "#0a2226")  # fmt: skip
    system = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    made = gr.themes.Base(
        primary_hue=accent, secondary_hue=accent, neutral_hue="stone", font=system, radius_size="md",
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
    )  # fmt: skip
    return made.set(
        body_background_fill="#fbfaf8", body_background_fill_dark="#171614",
        block_background_fill="#ffffff", block_background_fill_dark="#201f1c",
        background_fill_primary="#ffffff", background_fill_primary_dark="#201f1c",
        border_color_primary="#e2dfd9", border_color_primary_dark="#37352f",
        block_border_width="1px", block_shadow="none", block_label_background_fill="transparent",
        block_label_border_width="0px", block_label_text_color="#6d6963", block_label_text_color_dark="#a19c94",
        block_title_text_weight="500", block_title_text_color="#4a4641", block_title_text_color_dark="#c9c5be",
        button_primary_background_fill="#1d5f6b", button_primary_background_fill_hover="#15464f",
        button_primary_background_fill_dark="#2c7d8b", button_primary_background_fill_hover_dark="#348e9d",
        button_primary_text_color="#ffffff", button_large_text_weight="600", button_small_text_weight="500",
        layout_gap="12px", checkbox_label_background_fill="#ffffff", checkbox_label_background_fill_dark="#201f1c",
        checkbox_label_border_width="1px", checkbox_label_border_color="#e2dfd9", checkbox_label_border_color_dark="#37352f",
        checkbox_label_background_fill_selected="#e3eff1", checkbox_label_background_fill_selected_dark="#1d3237",
        slider_color="#1d5f6b", slider_color_dark="#7cc4cf",
    )  # fmt: skip
